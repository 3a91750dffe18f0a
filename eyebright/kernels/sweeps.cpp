// Passes over memory that training repeats at every layer, each in one sweep where separate operations need two or three.
//
// Maps are [rows, channels] with the channels of a pixel side by side (channels-last), float or bfloat16; sums, statistics
// and weights are float. How sums are cut into pieces depends on the shape alone, so results do not depend on the threads.

#include <cstdint>
#include <cstring>
#include <cmath>
#include <initializer_list>
#include <type_traits>
#include <vector>

namespace {

struct bfloat16 {
    uint16_t bits;
};

inline float get(float value) { return value; }
inline float get(bfloat16 value) {
    uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
    float wide;
    std::memcpy(&wide, &bits, 4);
    return wide;
}
inline void put(float &place, float value) { place = value; }
inline void put(bfloat16 &place, float value) {  // to the nearest, ties to even; not-a-number stays one
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    place.bits = static_cast<uint16_t>(value != value ? 0x7FC0 : rounded);
}

enum { IDENTITY = 0, RELU = 1, GELU = 2 };
constexpr int MOST_PIECES = 64;
constexpr int SAMPLES = 64;
constexpr int LEAST_STRETCHES = 32;  // of a piece, so that adding up the pieces' sums costs little beside making them

inline float exponential(float x) {  // of x <= 0, to 2 units in the last place: 2^n times a polynomial
    x = x < -87.0f ? -87.0f : x;
    float n = std::floor(x * 1.44269504f + 0.5f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, 4);
    return p * power;
}

// The normal distribution's share below u, to 1.5e-7 (Abramowitz and Stegun, 7.1.26); `bell` becomes exp(-u*u/2).
inline float share_below(float u, float &bell) {
    bell = exponential(-0.5f * u * u);
    float t = 1.0f / (1.0f + 0.3275911f * 0.70710678f * std::fabs(u));
    float tail = 1.061405429f;
    tail = tail * t - 1.453152027f;
    tail = tail * t + 1.421413741f;
    tail = tail * t - 0.284496736f;
    tail = tail * t + 0.254829592f;
    tail = 0.5f * tail * t * bell;
    return u < 0.0f ? tail : 1.0f - tail;
}

template <int ACTIVATION>
inline float activate(float u) {
    if (ACTIVATION == RELU) return u < 0.0f ? 0.0f : u;
    if (ACTIVATION == GELU) {
        float bell;
        return u * share_below(u, bell);
    }
    return u;
}

// The gradient before an activation, of the gradient after it, where `u` went in.
template <int ACTIVATION>
inline float before(float gradient, float u) {
    if (ACTIVATION == RELU) return u <= 0.0f ? 0.0f : gradient;
    if (ACTIVATION == GELU) {
        float bell, share = share_below(u, bell);
        return gradient * (share + u * bell * 0.39894228f);
    }
    return gradient;
}

// How a map is cut up: into pieces for threads, these into stretches so long that a loop over one is worth its start.
struct Cut {
    int64_t channels, width, count, stretches;
    int pieces;

    Cut(int64_t rows, int64_t channels) : channels(channels) {
        int64_t together = channels < 256 ? 256 / channels : 1;
        width = together * channels;
        count = rows * channels;
        stretches = (rows + together - 1) / together;
        int64_t wanted = stretches / LEAST_STRETCHES;
        pieces = wanted < 2 ? 2 : wanted > MOST_PIECES ? MOST_PIECES : static_cast<int>(wanted);
    }
    int64_t begin(int piece) const { return stretches * piece / pieces * width; }
    int64_t end(int piece) const { return begin(piece + 1) < count ? begin(piece + 1) : count; }
    int64_t length(int64_t from, int64_t end) const { return end - from < width ? end - from : width; }

    // Fills a stretch's length of values with those of the channels, over and over.
    void spread(float *values) const {
        for (int64_t i = channels; i < width; i++) values[i] = values[i - channels];
    }
    // Sums over pieces and stretches, for each channel.
    std::vector<double> totals(const float *sums) const {
        std::vector<double> all(channels, 0.0);
        for (int64_t from = 0; from < pieces * width; from += channels)
            for (int64_t c = 0; c < channels; c++) all[c] += sums[from + c];
        return all;
    }
};

// y = activation(normalised x + residual); mean and spread (1 / standard deviation) are what backward needs.
template <typename T, int ACTIVATION, bool RESIDUAL>
void forward(const T *x, const T *residual, const float *weight, const float *bias, float *running_mean,
             float *running_var, T *y, float *mean, float *spread, int64_t rows, int64_t channels, float eps,
             float momentum, int threads) {
    const Cut cut(rows, channels);
    const int64_t width = cut.width;
    std::vector<float> sums(2 * cut.pieces * width, 0.0f), lines(3 * width);
    float *squares = sums.data() + cut.pieces * width;
    float *center = lines.data(), *scale = center + width, *shift = scale + width;
    // Sums are of differences from about the mean, so that they keep their digits: the mean of rows from all over the map,
    // of which none but a few can lie in its corners, where padding makes values unusual.
    for (int sample = 0; sample < SAMPLES; sample++) {
        const T *here = x + static_cast<int64_t>(std::fmod(sample * 0.61803398875, 1.0) * rows) * channels;
        for (int64_t c = 0; c < channels; c++) center[c] += get(here[c]) / SAMPLES;
    }
    cut.spread(center);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int piece = 0; piece < cut.pieces; piece++) {
            float *sum = sums.data() + piece * width, *square = squares + piece * width;
            for (int64_t from = cut.begin(piece), end = cut.end(piece); from < end; from += width) {
                const T *here = x + from;
                const int64_t length = cut.length(from, end);
#pragma omp simd
                for (int64_t i = 0; i < length; i++) {
                    float difference = get(here[i]) - center[i];
                    sum[i] += difference;
                    square[i] += difference * difference;
                }
            }
        }
#pragma omp single
        {
            const std::vector<double> sum = cut.totals(sums.data()), square = cut.totals(squares);
            for (int64_t c = 0; c < channels; c++) {
                double average = sum[c] / rows, variance = square[c] / rows - average * average;
                variance = variance < 0 ? 0 : variance;
                mean[c] = static_cast<float>(center[c] + average);
                spread[c] = static_cast<float>(1 / std::sqrt(variance + eps));
                scale[c] = weight[c] * spread[c];
                shift[c] = bias[c] - mean[c] * scale[c];
                running_mean[c] = (1 - momentum) * running_mean[c] + momentum * mean[c];
                float unbiased = static_cast<float>(variance * rows / (rows - 1));
                running_var[c] = (1 - momentum) * running_var[c] + momentum * unbiased;
            }
            cut.spread(scale);
            cut.spread(shift);
        }
#pragma omp for schedule(static)
        for (int piece = cut.pieces - 1; piece >= 0; piece--) {
            for (int64_t from = cut.begin(piece), end = cut.end(piece); from < end; from += width) {
                const T *here = x + from, *added = RESIDUAL ? residual + from : nullptr;
                T *there = y + from;
                const int64_t length = cut.length(from, end);
#pragma omp simd
                for (int64_t i = 0; i < length; i++) {
                    float value = get(here[i]) * scale[i] + shift[i];
                    put(there[i], activate<ACTIVATION>(RESIDUAL ? value + get(added[i]) : value));
                }
            }
        }
    }
}

// Gradients of x, of the residual (where there is one), of weight and bias.
template <typename T, int ACTIVATION, bool RESIDUAL>
void backward(const T *gradient, const T *x, const T *residual, const float *weight, const float *bias,
              const float *mean, const float *spread, T *gradient_x, T *gradient_residual, float *gradient_weight,
              float *gradient_bias, int64_t rows, int64_t channels, int threads) {
    const Cut cut(rows, channels);
    const int64_t width = cut.width;
    std::vector<float> sums(2 * cut.pieces * width, 0.0f), lines(5 * width);
    float *products = sums.data() + cut.pieces * width;
    float *center = lines.data(), *scale = center + width, *shift = scale + width;
    float *slant = shift + width, *level = slant + width;
    for (int64_t c = 0; c < channels; c++) {
        center[c] = mean[c];
        scale[c] = weight[c] * spread[c];
        shift[c] = bias[c] - mean[c] * scale[c];
    }
    for (float *line : {center, scale, shift}) cut.spread(line);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int piece = 0; piece < cut.pieces; piece++) {
            float *sum = sums.data() + piece * width, *product = products + piece * width;
            for (int64_t from = cut.begin(piece), end = cut.end(piece); from < end; from += width) {
                const T *here = x + from, *given = gradient + from, *added = RESIDUAL ? residual + from : nullptr;
                T *passed = RESIDUAL ? gradient_residual + from : nullptr;
                const int64_t length = cut.length(from, end);
#pragma omp simd
                for (int64_t i = 0; i < length; i++) {
                    float value = get(here[i]), u = value * scale[i] + shift[i];
                    float g = before<ACTIVATION>(get(given[i]), RESIDUAL ? u + get(added[i]) : u);
                    if (RESIDUAL) put(passed[i], g);
                    sum[i] += g;
                    product[i] += g * (value - center[i]);
                }
            }
        }
#pragma omp single
        {
            const std::vector<double> sum = cut.totals(sums.data()), product = cut.totals(products);
            for (int64_t c = 0; c < channels; c++) {
                double turned = product[c] * spread[c];
                gradient_bias[c] = static_cast<float>(sum[c]);
                gradient_weight[c] = static_cast<float>(turned);
                slant[c] = static_cast<float>(-scale[c] * turned * spread[c] / rows);
                level[c] = static_cast<float>(-scale[c] * sum[c] / rows);
            }
            cut.spread(slant);
            cut.spread(level);
        }
#pragma omp for schedule(static)
        for (int piece = cut.pieces - 1; piece >= 0; piece--) {
            for (int64_t from = cut.begin(piece), end = cut.end(piece); from < end; from += width) {
                const T *here = x + from, *given = (RESIDUAL ? gradient_residual : gradient) + from;
                T *there = gradient_x + from;
                const int64_t length = cut.length(from, end);
#pragma omp simd
                for (int64_t i = 0; i < length; i++) {
                    float value = get(here[i]), g = get(given[i]);
                    if (!RESIDUAL) g = before<ACTIVATION>(g, value * scale[i] + shift[i]);
                    put(there[i], g * scale[i] + (value - center[i]) * slant[i] + level[i]);
                }
            }
        }
    }
}

// A max-pool over [images, height, width, channels]: windows of kernel × kernel, `stride` apart, the first `padding` before
// the map's edge; what lies outside is left out.
struct Pool {
    int64_t images, height, width, channels, rows, columns, kernel, stride, padding;  // rows × columns windows
};

// y = the largest of each window; place = which of the window's values that was, the first of several.
template <typename T>
void pool(const Pool &p, const T *x, T *y, uint8_t *place, int threads) {
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
    for (int64_t image = 0; image < p.images; image++)
        for (int64_t row = 0; row < p.rows; row++) {
            std::vector<float> best(p.channels);
            for (int64_t column = 0; column < p.columns; column++) {
                const int64_t out = ((image * p.rows + row) * p.columns + column) * p.channels;
                uint8_t *chosen = place + out;
                float *most = best.data();
                bool first = true;
                for (int64_t i = 0; i < p.kernel * p.kernel; i++) {
                    const int64_t h = row * p.stride - p.padding + i / p.kernel;
                    const int64_t w = column * p.stride - p.padding + i % p.kernel;
                    if (h < 0 || h >= p.height || w < 0 || w >= p.width) continue;
                    const T *here = x + ((image * p.height + h) * p.width + w) * p.channels;
                    const uint8_t number = static_cast<uint8_t>(i);
                    if (first) {
#pragma omp simd
                        for (int64_t c = 0; c < p.channels; c++) {
                            most[c] = get(here[c]);
                            chosen[c] = number;
                        }
                    } else {
#pragma omp simd
                        for (int64_t c = 0; c < p.channels; c++) {
                            const float value = get(here[c]);
                            const bool larger = value > most[c] || value != value;
                            most[c] = larger ? value : most[c];
                            chosen[c] = larger ? number : chosen[c];
                        }
                    }
                    first = false;
                }
#pragma omp simd
                for (int64_t c = 0; c < p.channels; c++) put(y[out + c], most[c]);
            }
        }
}

// The gradient of x: each of its values gathers from the windows in which it was the largest, and is written once.
template <typename T>
void unpool(const Pool &p, const T *gradient, const uint8_t *place, T *gradient_x, int threads) {
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
    for (int64_t image = 0; image < p.images; image++)
        for (int64_t h = 0; h < p.height; h++) {
            std::vector<float> line(p.channels);
            float *sum = line.data();
            const int64_t last_row = (h + p.padding) / p.stride;
            const int64_t first_row = h + p.padding < p.kernel ? 0 : (h + p.padding - p.kernel) / p.stride + 1;
            for (int64_t w = 0; w < p.width; w++) {
                const int64_t last_column = (w + p.padding) / p.stride;
                const int64_t first_column = w + p.padding < p.kernel ? 0 : (w + p.padding - p.kernel) / p.stride + 1;
                std::memset(sum, 0, p.channels * sizeof(float));
                for (int64_t row = first_row; row <= last_row && row < p.rows; row++)
                    for (int64_t column = first_column; column <= last_column && column < p.columns; column++) {
                        const int64_t from = ((image * p.rows + row) * p.columns + column) * p.channels;
                        const T *given = gradient + from;
                        const uint8_t *chosen = place + from;
                        const uint8_t number = static_cast<uint8_t>((h - row * p.stride + p.padding) * p.kernel + w -
                                                                    column * p.stride + p.padding);
#pragma omp simd
                        for (int64_t c = 0; c < p.channels; c++) sum[c] += chosen[c] == number ? get(given[c]) : 0.0f;
                    }
                T *there = gradient_x + ((image * p.height + h) * p.width + w) * p.channels;
#pragma omp simd
                for (int64_t c = 0; c < p.channels; c++) put(there[c], sum[c]);
            }
        }
}

// Sets values to zero with a chance of limit / 2^32 and multiplies the others by `factor`. The choice is the same for the same
// seed, low and high, so backward needs no mask.
template <typename T>
void drop(const T *x, T *y, int64_t count, uint32_t low, uint32_t high, uint32_t limit, float factor, int threads) {
#pragma omp parallel for simd schedule(static) num_threads(threads)
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = static_cast<uint32_t>(i) * 0x9E3779B1u + low;
        bits = ((bits ^ (bits >> 16)) * 0x7FEB352Du) ^ high;
        bits = (bits ^ (bits >> 15)) * 0x846CA68Bu;
        bits ^= bits >> 16;
        put(y[i], bits < limit ? 0.0f : get(x[i]) * factor);
    }
}

// Steps of optimisers over weights of which layers read a copy in another number format, in which the gradient comes, too:
// weights, what the optimiser remembers of them, and the copy are gone over once.

// Stochastic gradient descent: the step is along * gradient + along_velocity * velocity.
template <typename T>
void descend(const T *gradient, float *weight, float *velocity, T *copy, int64_t count, float rate, float momentum,
             float along, float along_velocity, float decay, int threads) {
#pragma omp parallel for simd schedule(static) num_threads(threads)
    for (int64_t i = 0; i < count; i++) {
        const float g = get(gradient[i]) + decay * weight[i];
        const float v = momentum * velocity[i] + g;
        velocity[i] = v;
        const float w = weight[i] - rate * (along * g + along_velocity * v);
        weight[i] = w;
        put(copy[i], w);
    }
}

// Adam: `coupled` times the weight is added to its gradient; AdamW: the weight shrinks by itself. The mean takes the share `own`
// of a gradient, the mean of squares keeps `kept` of itself; rate and root make up for their beginning with zero.
template <typename T>
void descend_adam(const T *gradient, float *weight, float *mean, float *square, T *copy, int64_t count, float rate, float root,
                  float own, float kept, float own_square, float eps, float coupled, float shrink, int threads) {
#pragma omp parallel for simd schedule(static) num_threads(threads)
    for (int64_t i = 0; i < count; i++) {
        const float g = get(gradient[i]) + coupled * weight[i];
        const float m = mean[i] + (g - mean[i]) * own;
        const float s = kept * square[i] + own_square * g * g;
        mean[i] = m;
        square[i] = s;
        const float w = shrink * weight[i] - rate * m / (std::sqrt(s) / root + eps);
        weight[i] = w;
        put(copy[i], w);
    }
}

}  // namespace

template <typename Run>
void with_activation(int activation, bool residual, Run run) {
    auto choose = [&](auto kind) {
        if (residual)
            run(kind, std::true_type());
        else
            run(kind, std::false_type());
    };
    if (activation == RELU)
        choose(std::integral_constant<int, RELU>());
    else if (activation == GELU)
        choose(std::integral_constant<int, GELU>());
    else
        choose(std::integral_constant<int, IDENTITY>());
}

#define FOR(T)                                                                                                        \
    extern "C" void forward_##T(int activation, const T *x, const T *residual, const float *weight, const float *bias, \
                                float *running_mean, float *running_var, T *y, float *mean, float *spread,             \
                                int64_t rows, int64_t channels, float eps, float momentum, int threads) {              \
        with_activation(activation, residual != nullptr, [&](auto kind, auto has_residual) {                           \
            forward<T, kind.value, has_residual.value>(x, residual, weight, bias, running_mean, running_var, y, mean,  \
                                                       spread, rows, channels, eps, momentum, threads);                \
        });                                                                                                            \
    }                                                                                                                  \
    extern "C" void backward_##T(int activation, const T *gradient, const T *x, const T *residual,                     \
                                 const float *weight, const float *bias, const float *mean, const float *spread,       \
                                 T *gradient_x, T *gradient_residual, float *gradient_weight, float *gradient_bias,    \
                                 int64_t rows, int64_t channels, int threads) {                                        \
        with_activation(activation, residual != nullptr, [&](auto kind, auto has_residual) {                           \
            backward<T, kind.value, has_residual.value>(gradient, x, residual, weight, bias, mean, spread, gradient_x, \
                                                        gradient_residual, gradient_weight, gradient_bias, rows,       \
                                                        channels, threads);                                            \
        });                                                                                                            \
    }                                                                                                                  \
    extern "C" void pool_##T(const T *x, T *y, uint8_t *place, int64_t images, int64_t height, int64_t width,          \
                             int64_t channels, int64_t rows, int64_t columns, int64_t kernel, int64_t stride,          \
                             int64_t padding, int threads) {                                                           \
        pool(Pool{images, height, width, channels, rows, columns, kernel, stride, padding}, x, y, place, threads);     \
    }                                                                                                                  \
    extern "C" void unpool_##T(const T *gradient, const uint8_t *place, T *gradient_x, int64_t images, int64_t height, \
                               int64_t width, int64_t channels, int64_t rows, int64_t columns, int64_t kernel,         \
                               int64_t stride, int64_t padding, int threads) {                                         \
        unpool(Pool{images, height, width, channels, rows, columns, kernel, stride, padding}, gradient, place,         \
               gradient_x, threads);                                                                                   \
    }                                                                                                                  \
    extern "C" void drop_##T(const T *x, T *y, int64_t count, uint32_t low, uint32_t high, uint32_t limit,             \
                             float factor, int threads) {                                                              \
        drop(x, y, count, low, high, limit, factor, threads);                                                               \
    }

using float32 = float;
FOR(float32)
FOR(bfloat16)

extern "C" void descend_bfloat16(const bfloat16 *gradient, float *weight, float *velocity, bfloat16 *copy, int64_t count,
                                 float rate, float momentum, float along, float along_velocity, float decay, int threads) {
    descend(gradient, weight, velocity, copy, count, rate, momentum, along, along_velocity, decay, threads);
}
extern "C" void descend_adam_bfloat16(const bfloat16 *gradient, float *weight, float *mean, float *square, bfloat16 *copy,
                                      int64_t count, float rate, float root, float own, float kept, float own_square,
                                      float eps, float coupled, float shrink, int threads) {
    descend_adam(gradient, weight, mean, square, copy, count, rate, root, own, kept, own_square, eps, coupled, shrink,
                 threads);
}
