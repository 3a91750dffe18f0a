// Convolutions of 3×3 and 5×5, with stride 1, in fewer multiplications (Winograd's minimal filtering; Lavin and Gray,
// "Fast Algorithms for Convolutional Neural Networks", 2016, section 4): F(4×4, 3×3) takes 36 for 144, F(2×2, 5×5) 36
// for 100. A tile of 4×4 or 2×2 outputs is made from 6×6 inputs: inputs and weights are both transformed to 36 points,
// and at each point the convolution is one matrix product over channels.
//
// Maps are [images, rows, columns, channels], float, channels in eights. How sums are cut into pieces depends on the
// shape alone, so results do not depend on the threads; with AVX-512 and with AVX2 they are the same. What is infinite
// or not a number makes its whole tile so.

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#include <omp.h>
#if defined(__AVX512F__) || defined(__FMA__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS = 8;
#else
constexpr int LANES = 8, ROWS = 4;
#endif
typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
constexpr int REACH = 6, POINTS = REACH * REACH, PANEL = 2 * LANES;
constexpr int64_t EIGHT = 8 * sizeof(float);
constexpr int64_t GROUP = 16;  // tiles are worked on in groups, everywhere the same
constexpr int64_t GAP = 16;  // values between points, which would fall on the same lines of the cache otherwise
constexpr int64_t CACHE = 393216;  // values: most of a core's own cache
constexpr int64_t LEAST = 96, MOST = 256;  // tiles at once

// Memory that begins on a line of the cache, as every multiple of 16 values after it does.
class Room {
    std::unique_ptr<float[]> memory;

  public:
    float *begin;
    explicit Room(int64_t values) : memory(new float[values + 16]) {
        begin = memory.get() + (64 - reinterpret_cast<uintptr_t>(memory.get()) % 64) % 64 / sizeof(float);
    }
};

inline Vector load(const float *from) { return *reinterpret_cast<const Vector *>(from); }
inline void store(float *to, Vector value) { *reinterpret_cast<Vector *>(to) = value; }
inline Vector load(const float *from, int64_t count) {  // the last ones may be eight of sixteen
    if (count >= LANES) return load(from);
    Vector value{};
    std::memcpy(&value, from, EIGHT);
    return value;
}
inline void store(float *to, Vector value, int64_t count) {
    if (count >= LANES)
        store(to, value);
    else
        std::memcpy(to, &value, EIGHT);
}

constexpr int64_t in_vectors(int64_t values) { return (values + LANES - 1) / LANES * LANES; }

inline Vector multiply_add(float a, Vector b, Vector c) {
#if defined(__AVX512F__)
    return (Vector)_mm512_fmadd_ps(_mm512_set1_ps(a), (__m512)b, (__m512)c);
#elif defined(__FMA__)
    return (Vector)_mm256_fmadd_ps(_mm256_set1_ps(a), (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

// Transforms along one side. The points are 0, 1, -1, 2, -2 and infinity.

inline void transform_inputs(const Vector *d, Vector *points) {
    const Vector a = d[4] - 4 * d[2], b = d[3] - 4 * d[1], e = d[4] - d[2], f = 2 * (d[3] - d[1]);
    points[0] = 4 * (d[0] - d[2]) + e;
    points[1] = a + b;
    points[2] = a - b;
    points[3] = e + f;
    points[4] = e - f;
    points[5] = 4 * (d[1] - d[3]) + (d[5] - d[3]);
}

template <int TAPS>
inline void transform_weights(const float *w, float *points) {
    constexpr bool FIVE = TAPS == 5;
    const float even = w[0] + w[2] + (FIVE ? w[4] : 0.0f), odd = w[1] + (FIVE ? w[3] : 0.0f);
    const float far_even = w[0] + 4 * w[2] + (FIVE ? 16 * w[4] : 0.0f), far_odd = 2 * w[1] + (FIVE ? 8 * w[3] : 0.0f);
    points[0] = w[0] * 0.25f;
    points[1] = (even + odd) * (-1.0f / 6);
    points[2] = (even - odd) * (-1.0f / 6);
    points[3] = (far_even + far_odd) * (1.0f / 24);
    points[4] = (far_even - far_odd) * (1.0f / 24);
    points[5] = w[TAPS - 1];
}

template <int TAPS>
inline void gather_outputs(const Vector *points, Vector *y) {
    const Vector a = points[1] + points[2], b = points[1] - points[2];
    const Vector e = points[3] + points[4], f = points[3] - points[4];
    y[0] = points[0] + a + e;
    if (TAPS == 5) {
        y[1] = b + 2 * f + points[5];
    } else {
        y[1] = b + 2 * f;
        y[2] = a + 4 * e;
        y[3] = b + 8 * f + points[5];
    }
}

// The gradients of outputs go back to the points that `gather_outputs` has them from,
template <int TAPS>
inline void scatter_gradients(const Vector *g, Vector *points) {
    constexpr bool FIVE = TAPS == 5;
    const Vector a = FIVE ? g[0] : g[0] + g[2], b = FIVE ? g[1] : g[1] + g[3];
    const Vector e = FIVE ? g[0] : g[0] + 4 * g[2], f = FIVE ? 2 * g[1] : 2 * g[1] + 8 * g[3];
    points[0] = g[0];
    points[1] = a + b;
    points[2] = a - b;
    points[3] = e + f;
    points[4] = e - f;
    points[5] = g[6 - TAPS];
}

// and those of transformed weights to the weights.
template <int TAPS>
inline void gather_weights(const Vector *points, Vector *w) {
    const Vector a = (points[1] + points[2]) * (-1.0f / 6), b = (points[2] - points[1]) * (1.0f / 6);
    const Vector e = (points[3] + points[4]) * (1.0f / 24), f = (points[3] - points[4]) * (1.0f / 12);
    w[0] = points[0] * 0.25f + a + e;
    w[1] = b + f;
    if (TAPS == 5) {
        w[2] = a + 4 * e;
        w[3] = b + 4 * f;
        w[4] = a + 16 * e + points[5];
    } else {
        w[2] = a + 4 * e + points[5];
    }
}

struct Shape {
    int64_t images, height, width, channels, maps, padding;
};

struct Steps {  // between weights [maps, channels, rows, columns]
    int64_t map, channel, row, column;
};

template <int TAPS>
struct Convolution : Shape {
    static constexpr int SIDE = REACH + 1 - TAPS;
    int64_t rows, columns, across, of_image, tiles;

    explicit Convolution(const Shape &shape) : Shape(shape) {
        rows = height + 2 * padding - TAPS + 1;
        columns = width + 2 * padding - TAPS + 1;
        across = (columns + SIDE - 1) / SIDE;
        of_image = (rows + SIDE - 1) / SIDE * across;
        tiles = images * of_image;
    }

    // 6×6 inputs under a tile to its points, `apart`.
    void read_input(const float *x, int64_t tile, float *points, int64_t apart) const {
        const int64_t top = tile % of_image / across * SIDE - padding, left = tile % across * SIDE - padding;
        const float *image = x + tile / of_image * height * width * channels;
        for (int64_t c = 0; c < channels; c += LANES) {
            Vector half[REACH][REACH];
            for (int j = 0; j < REACH; j++) {
                Vector d[REACH], v[REACH];
                const int64_t w = left + j;
                for (int i = 0; i < REACH; i++) {
                    const int64_t h = top + i;
                    const bool inside = h >= 0 && h < height && w >= 0 && w < width;
                    d[i] = inside ? load(image + (h * width + w) * channels + c, channels - c) : Vector{};
                }
                transform_inputs(d, v);
                for (int i = 0; i < REACH; i++) half[i][j] = v[i];
            }
            for (int i = 0; i < REACH; i++) {
                Vector v[REACH];
                transform_inputs(half[i], v);
                for (int j = 0; j < REACH; j++) store(points + (i * REACH + j) * apart + c, v[j]);
            }
        }
    }

    // The gradients of a tile's outputs to its points.
    void read_gradient(const float *g, int64_t tile, float *points, int64_t apart) const {
        const int64_t top = tile % of_image / across * SIDE, left = tile % across * SIDE;
        const float *image = g + tile / of_image * rows * columns * maps;
        for (int64_t k = 0; k < maps; k += LANES) {
            Vector half[REACH][SIDE];
            for (int j = 0; j < SIDE; j++) {
                Vector d[SIDE], v[REACH];
                for (int i = 0; i < SIDE; i++) {
                    const bool inside = top + i < rows && left + j < columns;
                    d[i] = inside ? load(image + ((top + i) * columns + left + j) * maps + k, maps - k) : Vector{};
                }
                scatter_gradients<TAPS>(d, v);
                for (int i = 0; i < REACH; i++) half[i][j] = v[i];
            }
            for (int i = 0; i < REACH; i++) {
                Vector v[REACH];
                scatter_gradients<TAPS>(half[i], v);
                for (int j = 0; j < REACH; j++) store(points + (i * REACH + j) * apart + k, v[j]);
            }
        }
    }

    // A tile's points to its outputs.
    void write_output(const float *points, int64_t apart, int64_t tile, const float *bias, float *y) const {
        const int64_t top = tile % of_image / across * SIDE, left = tile % across * SIDE;
        float *image = y + tile / of_image * rows * columns * maps;
        for (int64_t k = 0; k < maps; k += LANES) {
            Vector half[SIDE][REACH];
            for (int j = 0; j < REACH; j++) {
                Vector m[REACH], v[SIDE];
                for (int i = 0; i < REACH; i++) m[i] = load(points + (i * REACH + j) * apart + k);
                gather_outputs<TAPS>(m, v);
                for (int i = 0; i < SIDE; i++) half[i][j] = v[i];
            }
            const Vector level = bias ? load(bias + k, maps - k) : Vector{};
            for (int i = 0; i < SIDE && top + i < rows; i++) {
                Vector v[SIDE];
                gather_outputs<TAPS>(half[i], v);
                for (int j = 0; j < SIDE && left + j < columns; j++)
                    store(image + ((top + i) * columns + left + j) * maps + k, v[j] + level, maps - k);
            }
        }
    }

    // Weights to points[36][panels of maps][channels][PANEL], points `apart`; `turned` by 180 degrees.
    void read_weights(const float *w, const Steps &steps, bool turned, float *points, int64_t apart,
                      int threads) const {
        const int64_t panels = (maps + PANEL - 1) / PANEL;
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
        for (int64_t panel = 0; panel < panels; panel++)
            for (int64_t c = 0; c < channels; c++) {
                const int64_t first = panel * PANEL, count = maps - first < PANEL ? maps - first : PANEL;
                float taps[TAPS][TAPS][PANEL] = {}, all[REACH][REACH][PANEL];
                for (int64_t k = 0; k < count; k++)
                    for (int i = 0; i < TAPS; i++)
                        for (int j = 0; j < TAPS; j++)
                            taps[turned ? TAPS - 1 - i : i][turned ? TAPS - 1 - j : j][k] =
                                w[(first + k) * steps.map + c * steps.channel + i * steps.row + j * steps.column];
#pragma omp simd
                for (int k = 0; k < PANEL; k++) {
                    float half[REACH][TAPS];
                    for (int j = 0; j < TAPS; j++) {
                        float column[TAPS], u[REACH];
                        for (int i = 0; i < TAPS; i++) column[i] = taps[i][j][k];
                        transform_weights<TAPS>(column, u);
                        for (int i = 0; i < REACH; i++) half[i][j] = u[i];
                    }
                    for (int i = 0; i < REACH; i++) {
                        float u[REACH];
                        transform_weights<TAPS>(half[i], u);
                        for (int j = 0; j < REACH; j++) all[i][j][k] = u[j];
                    }
                }
                for (int p = 0; p < POINTS; p++)
                    std::memcpy(points + p * apart + (panel * channels + c) * PANEL, all[p / REACH][p % REACH],
                                sizeof all[0][0]);
            }
    }

    // points[36][channels][maps in vectors], `apart`, to the gradients of weights.
    void write_weights(const float *points, int64_t apart, const Steps &steps, float *gradient) const {
#pragma omp for collapse(2) schedule(static)
        for (int64_t k = 0; k < maps; k += LANES)
            for (int64_t c = 0; c < channels; c++) {
                const int64_t count = maps - k < LANES ? maps - k : LANES;
                Vector half[TAPS][REACH];
                for (int j = 0; j < REACH; j++) {
                    Vector u[REACH], v[TAPS];
                    for (int i = 0; i < REACH; i++) u[i] = load(points + (i * REACH + j) * apart + c * in_vectors(maps) + k);
                    gather_weights<TAPS>(u, v);
                    for (int i = 0; i < TAPS; i++) half[i][j] = v[i];
                }
                for (int i = 0; i < TAPS; i++) {
                    Vector v[TAPS];
                    gather_weights<TAPS>(half[i], v);
                    for (int j = 0; j < TAPS; j++)
                        for (int64_t lane = 0; lane < count; lane++)
                            gradient[(k + lane) * steps.map + c * steps.channel + i * steps.row + j * steps.column] =
                                v[j][lane];
                }
            }
    }

    // How many tiles to work on at once: their points should stay in a core's cache, but weights are read anew for each
    // block, and threads should have blocks of one length.
    int64_t block_of_tiles(int threads) const {
        int64_t block = CACHE / (POINTS * (channels + maps));
        block = block < LEAST ? LEAST : block > MOST ? MOST : block;
        const int64_t each = (tiles + threads - 1) / threads, blocks = (each + block - 1) / block;
        return ((each + blocks - 1) / blocks + GROUP - 1) / GROUP * GROUP;
    }
};

// sums[row][0 …] (+)= the sum over i of left[row × row_step + i × step] × right[i][0 …], for `rows` rows, rounded up to
// AT_ONCE of them.
template <int VECTORS, bool ADD>
void multiply(int64_t rows, const float *left, int64_t row_step, int64_t step, const float *right, int64_t right_step,
              int64_t length, float *sums, int64_t sums_step) {
    constexpr int AT_ONCE = 2 * ROWS / VECTORS;
    static_assert(GROUP % AT_ONCE == 0 && LANES % AT_ONCE == 0, "there is room for so many tiles and channels");
    for (int64_t first = 0; first < rows; first += AT_ONCE) {
        const float *from = left + first * row_step;
        Vector sum[AT_ONCE][VECTORS] = {};
        for (int64_t i = 0; i < length; i++) {
            Vector line[VECTORS];
            for (int v = 0; v < VECTORS; v++) line[v] = load(right + i * right_step + v * LANES);
            for (int r = 0; r < AT_ONCE; r++)
                for (int v = 0; v < VECTORS; v++)
                    sum[r][v] = multiply_add(from[r * row_step + i * step], line[v], sum[r][v]);
        }
        for (int r = 0; r < AT_ONCE; r++)
            for (int v = 0; v < VECTORS; v++) {
                float *to = sums + (first + r) * sums_step + v * LANES;
                store(to, ADD ? load(to) + sum[r][v] : sum[r][v]);
            }
    }
}

using Multiply = void (*)(int64_t, const float *, int64_t, int64_t, const float *, int64_t, int64_t, float *,
                          int64_t);

inline Multiply choose_multiply(int64_t maps_left, bool add) {
    if (maps_left > LANES) return add ? multiply<2, true> : multiply<2, false>;
    return add ? multiply<1, true> : multiply<1, false>;
}

// y = x convolved with w, and the bias if there is one.
template <int TAPS>
void convolve(const Convolution<TAPS> &own, const float *x, const float *w, const float *bias, float *y,
              const Steps &steps, bool turned, int threads) {
    const int64_t channels = own.channels, deep = in_vectors(channels), maps = in_vectors(own.maps);
    const int64_t panels = (maps + PANEL - 1) / PANEL;
    const int64_t block = own.block_of_tiles(threads), blocks = (own.tiles + block - 1) / block;
    const int64_t in_apart = block * deep + GAP, out_apart = block * maps + GAP;
    const int64_t of_thread = POINTS * (in_apart + out_apart), apart = panels * channels * PANEL + GAP;
    const int busy = static_cast<int>(blocks < threads ? blocks : threads);
    const Room room(POINTS * apart + busy * of_thread);
    float *const weights = room.begin, *const work = weights + POINTS * apart;
    own.read_weights(w, steps, turned, weights, apart, threads);
#pragma omp parallel for schedule(dynamic) num_threads(busy)
    for (int64_t number = 0; number < blocks; number++) {
        float *const inputs = work + omp_get_thread_num() * of_thread, *const outputs = inputs + POINTS * in_apart;
        const int64_t first = number * block, count = own.tiles - first < block ? own.tiles - first : block;
        for (int64_t t = 0; t < count; t++) own.read_input(x, first + t, inputs + t * deep, in_apart);
        for (int p = 0; p < POINTS; p++)
            for (int64_t panel = 0; panel < panels; panel++) {
                const float *right = weights + p * apart + panel * channels * PANEL;
                const Multiply product = choose_multiply(maps - panel * PANEL, false);
                product(count, inputs + p * in_apart, deep, 1, right, PANEL, channels,
                        outputs + p * out_apart + panel * PANEL, maps);
            }
        for (int64_t t = 0; t < count; t++) own.write_output(outputs + t * maps, out_apart, first + t, bias, y);
    }
}

// The gradient of w.
template <int TAPS>
void convolve_weights(const Convolution<TAPS> &own, const float *x, const float *g, float *gradient, const Steps &steps,
                      int threads) {
    const int64_t channels = own.channels, deep = in_vectors(channels), maps = in_vectors(own.maps);
    const int64_t block = own.block_of_tiles(1);  // of all threads together: sums are cut the same with any number of them
    const int64_t x_apart = block * deep + GAP, g_apart = block * maps + GAP;
    const int64_t apart = deep * maps + GAP;
    const Room room(POINTS * (x_apart + g_apart + apart));
    float *const inputs = room.begin, *const gradients = inputs + POINTS * x_apart;
    float *const sums = gradients + POINTS * g_apart;
#pragma omp parallel num_threads(threads)
    {
        for (int64_t first = 0; first < own.tiles; first += block) {
            const int64_t count = own.tiles - first < block ? own.tiles - first : block;
#pragma omp for schedule(static)
            for (int64_t t = 0; t < count; t++) {
                own.read_input(x, first + t, inputs + t * deep, x_apart);
                own.read_gradient(g, first + t, gradients + t * maps, g_apart);
            }
#pragma omp for collapse(2) schedule(static)
            for (int p = 0; p < POINTS; p++)
                for (int64_t k = 0; k < maps; k += PANEL) {
                    const Multiply product = choose_multiply(maps - k, first > 0);
                    product(channels, inputs + p * x_apart, 1, deep, gradients + p * g_apart + k, maps, count,
                            sums + p * apart + k, maps);
                }
        }
        own.write_weights(sums, apart, steps, gradient);
    }
}

template <typename Run>
int told_of_memory(Run run) {
    try {
        run();
        return 0;
    } catch (const std::bad_alloc &) {
        return 1;
    }
}

}  // namespace

// Whether the processor has the vectors that all this is written for; how fast it is without them was not measured.
extern "C" int has_wide_vectors() {
#if defined(__AVX512F__) || defined(__FMA__)
    return 1;
#else
    return 0;
#endif
}

// These two return 1 where there is not memory enough, otherwise 0. The gradient of x is the convolution of y's gradient
// with the weights turned, channels and maps exchanged.
extern "C" int convolve_float32(const float *x, const float *w, const float *bias, float *y, int64_t images,
                                int64_t height, int64_t width, int64_t channels, int64_t maps, int64_t padding,
                                int64_t step_map, int64_t step_channel, int64_t step_row, int64_t step_column,
                                int taps, int turned, int threads) {
    const Shape shape{images, height, width, channels, maps, padding};
    const Steps steps{step_map, step_channel, step_row, step_column};
    return told_of_memory([&] {
        if (taps == 5)
            convolve(Convolution<5>(shape), x, w, bias, y, steps, turned, threads);
        else
            convolve(Convolution<3>(shape), x, w, bias, y, steps, turned, threads);
    });
}

extern "C" int convolve_weights_float32(const float *x, const float *g, float *gradient, int64_t images, int64_t height,
                                        int64_t width, int64_t channels, int64_t maps, int64_t padding,
                                        int64_t step_map, int64_t step_channel, int64_t step_row, int64_t step_column,
                                        int taps, int threads) {
    const Shape shape{images, height, width, channels, maps, padding};
    const Steps steps{step_map, step_channel, step_row, step_column};
    return told_of_memory([&] {
        if (taps == 5)
            convolve_weights(Convolution<5>(shape), x, g, gradient, steps, threads);
        else
            convolve_weights(Convolution<3>(shape), x, g, gradient, steps, threads);
    });
}
