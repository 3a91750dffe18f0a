// Convolutions of 3×3 and 5×5, with stride 1, in fewer multiplications (Winograd's minimal filtering; Lavin and Gray,
// "Fast Algorithms for Convolutional Neural Networks", 2016, section 4): F(4×4, 3×3) takes 36 for 144, F(2×2, 5×5) 36
// for 100. A tile of 4×4 or 2×2 outputs is made from 6×6 inputs: inputs and weights are both transformed to 36 points,
// and at each point the convolution is one matrix product over channels.
//
// Maps are [images, rows, columns, channels], float or bfloat16, channels in eights; weights and their gradients are
// float. With bfloat16 maps the points that are multiplied are bfloat16, too, where the processor has such products; all
// sums and the transforms are float. How sums are cut into pieces depends on the shape alone, so results do not depend
// on the threads; with AVX-512 and with AVX2 they are the same. What is infinite or not a number makes its whole tile so.

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
#define UNROLL _Pragma("GCC unroll 8")
typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
constexpr int REACH = 6, POINTS = REACH * REACH, PANEL = 2 * LANES;
constexpr int64_t GROUP = 16;  // tiles are worked on in groups, everywhere the same
constexpr int64_t GAP = 16;  // values between points, which would fall on the same lines of the cache otherwise
constexpr int64_t CACHE = 393216;  // values: most of a core's own cache
constexpr int64_t LEAST = 96, MOST = 256;  // tiles at once
constexpr int64_t FEW = 262144;  // values: half of a core's own cache
constexpr int64_t LEAST_OF_PIECE = 64, MOST_PIECES = 16;  // tiles; and pieces
constexpr int64_t MOST_OF_PARTS = 1 << 24;  // values: two pieces may be more

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
    std::memcpy(&value, from, 8 * sizeof(float));
    return value;
}
inline void store(float *to, Vector value, int64_t count) {
    if (count >= LANES)
        store(to, value);
    else
        std::memcpy(to, &value, 8 * sizeof(float));
}

inline Vector multiply_add(float a, Vector b, Vector c) {
#if defined(__AVX512F__)
    return (Vector)_mm512_fmadd_ps(_mm512_set1_ps(a), (__m512)b, (__m512)c);
#elif defined(__FMA__)
    return (Vector)_mm256_fmadd_ps(_mm256_set1_ps(a), (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

// What is multiplied at a point: one value of four bytes, or two of two bytes each that are multiplied together.
template <typename T>
struct Factors;

template <>
struct Factors<float> {
    using Type = float;
    static constexpr int EACH = 1;
};

#if defined(__AVX512BF16__)

struct bfloat16 {
    uint16_t bits;
};

struct Pair {
    bfloat16 values[2];
};

template <>
struct Factors<bfloat16> {
    using Type = Pair;
    static constexpr int EACH = 2;
};

inline Vector widen(__m256i values) { return (Vector)_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16); }
inline __m256i narrow(Vector values) { return (__m256i)_mm512_cvtneps_pbh((__m512)values); }

inline Vector load(const bfloat16 *from, int64_t count) {
    if (count >= LANES) return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)));
    return widen(_mm256_zextsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from))));
}
inline void store(bfloat16 *to, Vector value, int64_t count) {
    if (count >= LANES)
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), narrow(value));
    else
        _mm_storeu_si128(reinterpret_cast<__m128i *>(to), _mm256_castsi256_si128(narrow(value)));
}
inline void store(Pair *to, Vector value) { store(to->values, value, LANES); }
inline void store(Pair *to, Vector first, Vector second) {
    const __m512i low = _mm512_cvtepu16_epi32(narrow(first)), high = _mm512_cvtepu16_epi32(narrow(second));
    _mm512_storeu_si512(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}
inline Vector load(const Pair *from) { return (Vector)_mm512_loadu_si512(from); }
inline Vector multiply_add(const Pair &a, Vector b, Vector c) {
    int32_t both;
    std::memcpy(&both, &a, sizeof both);
    return (Vector)_mm512_dpbf16_ps((__m512)c, (__m512bh)_mm512_set1_epi32(both), (__m512bh)b);
}

#endif

// Values that stand for themselves, or of which two each are multiplied together.
template <int COUNT, typename Point>
inline void put(Point *to, Vector first, Vector second) {
    if constexpr (COUNT == 2)
        store(to, first, second);
    else
        store(to, first);
}

constexpr int64_t in_vectors(int64_t values) { return (values + LANES - 1) / LANES * LANES; }

// Transforms along one side. The points are 0, A, -A, B, -B and infinity: with these, errors are about half of what they
// are with 1 and 2 (the search for good ones: Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd
// Convolution for Deep Neural Networks", 2020).
constexpr float A = 0.625f, B = 1.5f, AA = A * A, BB = B * B, ALL = AA * BB;
constexpr float ZERO_WEIGHT = 1 / ALL, A_WEIGHT = 1 / (2 * AA * (AA - BB)), B_WEIGHT = 1 / (2 * BB * (BB - AA));

inline void transform_inputs(const Vector *d, Vector *points) {
    const Vector even_a = multiply_add(-BB, d[2], d[4]), odd_a = multiply_add(-BB, d[1], d[3]);
    const Vector even_b = multiply_add(-AA, d[2], d[4]), odd_b = multiply_add(-AA, d[1], d[3]);
    points[0] = multiply_add(ALL, d[0], multiply_add(-(AA + BB), d[2], d[4]));
    points[1] = multiply_add(A, odd_a, even_a);
    points[2] = multiply_add(-A, odd_a, even_a);
    points[3] = multiply_add(B, odd_b, even_b);
    points[4] = multiply_add(-B, odd_b, even_b);
    points[5] = multiply_add(ALL, d[1], multiply_add(-(AA + BB), d[3], d[5]));
}

template <int TAPS>
inline void transform_weights(const Vector *w, Vector *points) {
    const Vector middle_a = TAPS == 5 ? multiply_add(AA, w[4], w[2]) : w[2], even_a = multiply_add(AA, middle_a, w[0]);
    const Vector middle_b = TAPS == 5 ? multiply_add(BB, w[4], w[2]) : w[2], even_b = multiply_add(BB, middle_b, w[0]);
    const Vector odd_a = A * (TAPS == 5 ? multiply_add(AA, w[3], w[1]) : w[1]);
    const Vector odd_b = B * (TAPS == 5 ? multiply_add(BB, w[3], w[1]) : w[1]);
    points[0] = ZERO_WEIGHT * w[0];
    points[1] = A_WEIGHT * (even_a + odd_a);
    points[2] = A_WEIGHT * (even_a - odd_a);
    points[3] = B_WEIGHT * (even_b + odd_b);
    points[4] = B_WEIGHT * (even_b - odd_b);
    points[5] = w[TAPS - 1];
}

template <int TAPS>
inline void gather_outputs(const Vector *points, Vector *y) {
    const Vector even_a = points[1] + points[2], odd_a = points[1] - points[2];
    const Vector even_b = points[3] + points[4], odd_b = points[3] - points[4];
    y[0] = points[0] + even_a + even_b;
    if (TAPS == 5) {
        y[1] = multiply_add(A, odd_a, multiply_add(B, odd_b, points[5]));
    } else {
        y[1] = multiply_add(A, odd_a, B * odd_b);
        y[2] = multiply_add(AA, even_a, BB * even_b);
        y[3] = multiply_add(A * AA, odd_a, multiply_add(B * BB, odd_b, points[5]));
    }
}

// The gradients of outputs go back to the points that `gather_outputs` has them from,
template <int TAPS>
inline void scatter_gradients(const Vector *g, Vector *points) {
    constexpr bool FIVE = TAPS == 5;
    const Vector even_a = FIVE ? g[0] : multiply_add(AA, g[2], g[0]), even_b = FIVE ? g[0] : multiply_add(BB, g[2], g[0]);
    const Vector odd_a = FIVE ? g[1] : multiply_add(AA, g[3], g[1]), odd_b = FIVE ? g[1] : multiply_add(BB, g[3], g[1]);
    points[0] = g[0];
    points[1] = multiply_add(A, odd_a, even_a);
    points[2] = multiply_add(-A, odd_a, even_a);
    points[3] = multiply_add(B, odd_b, even_b);
    points[4] = multiply_add(-B, odd_b, even_b);
    points[5] = g[6 - TAPS];
}

// and those of transformed weights to the weights.
template <int TAPS>
inline void gather_weights(const Vector *points, Vector *w) {
    const Vector even_a = A_WEIGHT * (points[1] + points[2]), odd_a = (A * A_WEIGHT) * (points[1] - points[2]);
    const Vector even_b = B_WEIGHT * (points[3] + points[4]), odd_b = (B * B_WEIGHT) * (points[3] - points[4]);
    w[0] = multiply_add(ZERO_WEIGHT, points[0], even_a + even_b);
    w[1] = odd_a + odd_b;
    if (TAPS == 5) {
        w[2] = multiply_add(AA, even_a, BB * even_b);
        w[3] = multiply_add(AA, odd_a, BB * odd_b);
        w[4] = multiply_add(AA * AA, even_a, multiply_add(BB * BB, even_b, points[5]));
    } else {
        w[2] = multiply_add(AA, even_a, multiply_add(BB, even_b, points[5]));
    }
}

struct Shape {
    int64_t images, height, width, channels, maps, padding;
};

struct Place {  // of a tile: the image, and which it is from the top and from the left
    int64_t image, row, column;
};

struct Steps {  // between weights [maps, channels, rows, columns]
    int64_t map, channel, row, column;
};

template <typename T, int TAPS>
struct Convolution : Shape {
    using Point = typename Factors<T>::Type;
    static constexpr int SIDE = REACH + 1 - TAPS, EACH = Factors<T>::EACH;
    int64_t rows, columns, down, across, tiles;

    explicit Convolution(const Shape &shape) : Shape(shape) {
        rows = height + 2 * padding - TAPS + 1;
        columns = width + 2 * padding - TAPS + 1;
        down = (rows + SIDE - 1) / SIDE;
        across = (columns + SIDE - 1) / SIDE;
        tiles = images * down * across;
    }

    Place find(int64_t tile) const { return {tile / (down * across), tile / across % down, tile % across}; }
    Place after(Place place) const {
        if (++place.column < across) return place;
        if (++place.row < down) return {place.image, place.row, 0};
        return {place.image + 1, 0, 0};
    }

    // What the points of a tile are made from: 6×6 inputs under it (WIDTH = REACH), or the gradients of its outputs.
    template <int WIDTH>
    struct Map {
        const T *values;
        int64_t height, width, depth, padding;
    };
    Map<REACH> inputs(const T *x) const { return {x, height, width, channels, padding}; }
    Map<SIDE> gradients(const T *g) const { return {g, rows, columns, maps, 0}; }

    static void transform_row(const Vector (&d)[REACH], Vector (&v)[REACH]) { transform_inputs(d, v); }
    static void transform_row(const Vector (&d)[SIDE], Vector (&v)[REACH]) { scatter_gradients<TAPS>(d, v); }

    // A tile of it, transformed along columns, for the channels from c; nothing of a tile that is not there.
    template <int WIDTH>
    void read_columns(const Map<WIDTH> &map, const Place &place, int64_t c, Vector (&half)[REACH][WIDTH]) const {
        const int64_t top = place.row * SIDE - map.padding, left = place.column * SIDE - map.padding;
        const T *image = map.values + ((place.image * map.height + top) * map.width + left) * map.depth + c;
        const auto columns_of = [&](auto inside) {
            UNROLL
            for (int j = 0; j < WIDTH; j++) {
                Vector d[WIDTH], v[REACH];
                UNROLL
                for (int i = 0; i < WIDTH; i++)
                    d[i] = inside(i, j) ? load(image + (i * map.width + j) * map.depth, map.depth - c) : Vector{};
                transform_row(d, v);
                UNROLL
                for (int i = 0; i < REACH; i++) half[i][j] = v[i];
            }
        };
        const bool there = place.image < images;
        if (top >= 0 && left >= 0 && top + WIDTH <= map.height && left + WIDTH <= map.width && there) {
            columns_of([](int, int) { return true; });
        } else {
            const unsigned high = there ? within(top, map.height, WIDTH) : 0, wide = within(left, map.width, WIDTH);
            columns_of([&](int i, int j) { return (high >> i & wide >> j & 1) != 0; });
        }
    }

    // A bit for each of `count` places from `first` on, set where it is one of 0 … end - 1.
    static unsigned within(int64_t first, int64_t end, int count) {
        const int64_t from = first < 0 ? -first : 0, to = end - first < count ? end - first : count;
        return to <= from ? 0 : ((1u << to) - 1) & ~((1u << from) - 1);
    }

    // `TILES` tiles of it, to points that are `apart`: factors from one tile belong to neighbouring channels, those from
    // two tiles to one channel.
    template <int TILES, int WIDTH>
    void read(const Map<WIDTH> &map, const Place (&places)[TILES], Point *points, int64_t apart) const {
        for (int64_t c = 0; c < map.depth; c += LANES) {
            Vector half[TILES][REACH][WIDTH];
            UNROLL
            for (int t = 0; t < TILES; t++) read_columns(map, places[t], c, half[t]);
            Point *to = points + c * TILES / EACH;
            UNROLL
            for (int i = 0; i < REACH; i++) {
                Vector v[TILES][REACH];
                UNROLL
                for (int t = 0; t < TILES; t++) transform_row(half[t][i], v[t]);
                UNROLL
                for (int j = 0; j < REACH; j++) put<TILES>(to + (i * REACH + j) * apart, v[0][j], v[TILES - 1][j]);
            }
        }
    }

    // A tile's points to its outputs.
    void write_output(const float *points, int64_t apart, const Place &place, const float *bias, T *y) const {
        const int64_t top = place.row * SIDE, left = place.column * SIDE;
        T *image = y + ((place.image * rows + top) * columns + left) * maps;
        const bool whole = top + SIDE <= rows && left + SIDE <= columns;
        for (int64_t k = 0; k < maps; k += LANES) {
            Vector half[SIDE][REACH];
            UNROLL
            for (int j = 0; j < REACH; j++) {
                Vector m[REACH], v[SIDE];
                UNROLL
                for (int i = 0; i < REACH; i++) m[i] = load(points + (i * REACH + j) * apart + k);
                gather_outputs<TAPS>(m, v);
                UNROLL
                for (int i = 0; i < SIDE; i++) half[i][j] = v[i];
            }
            const Vector level = bias ? load(bias + k, maps - k) : Vector{};
            UNROLL
            for (int i = 0; i < SIDE; i++) {
                Vector v[SIDE];
                gather_outputs<TAPS>(half[i], v);
                UNROLL
                for (int j = 0; j < SIDE; j++)
                    if (whole || (top + i < rows && left + j < columns))
                        store(image + (i * columns + j) * maps + k, v[j] + level, maps - k);
            }
        }
    }

    // Weights to points[36][panels of maps][channels][PANEL], points `apart`; `turned` by 180 degrees. Where two factors
    // are multiplied together, two channels are one.
    void read_weights(const float *w, const Steps &steps, bool turned, Point *points, int64_t apart,
                      int threads) const {
        const int64_t panels = (maps + PANEL - 1) / PANEL, lines = channels / EACH;
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
        for (int64_t panel = 0; panel < panels; panel++)
            for (int64_t c = 0; c < channels; c += 8) {
                float taps[8][TAPS * TAPS][PANEL];
                copy_weights(w + panel * PANEL * steps.map + c * steps.channel, maps - panel * PANEL, steps, turned, taps);
                for (int e = 0; e < 8; e += EACH) {
                    float all[EACH][POINTS][PANEL];
                    for (int f = 0; f < EACH; f++) transform_panel(taps[e + f], all[f]);
                    Point *to = points + (panel * lines + (c + e) / EACH) * PANEL;
                    for (int p = 0; p < POINTS; p++)
                        for (int k = 0; k < PANEL; k += LANES)
                            put<EACH>(to + p * apart + k, load(all[0][p] + k), load(all[EACH - 1][p] + k));
                }
            }
    }

    // Weights of eight channels and at most a panel of maps, maps side by side; in the order in which they lie in memory.
    static void copy_weights(const float *w, int64_t most, const Steps &steps, bool turned,
                             float (&taps)[8][TAPS * TAPS][PANEL]) {
        const int64_t count = most < PANEL ? most : PANEL;
        if (count < PANEL) std::memset(taps, 0, sizeof taps);
        const auto copy = [&](int c, int tap, int64_t k) {
            const int64_t at = k * steps.map + c * steps.channel + tap / TAPS * steps.row + tap % TAPS * steps.column;
            taps[c][turned ? TAPS * TAPS - 1 - tap : tap][k] = w[at];
        };
        if (steps.map == 1) {
            for (int c = 0; c < 8; c++)
                for (int tap = 0; tap < TAPS * TAPS; tap++)
                    for (int64_t k = 0; k < count; k++) copy(c, tap, k);
        } else {
            for (int64_t k = 0; k < count; k++)
                for (int tap = 0; tap < TAPS * TAPS; tap++)
                    for (int c = 0; c < 8; c++) copy(c, tap, k);
        }
    }

    static void transform_panel(const float (&taps)[TAPS * TAPS][PANEL], float (&points)[POINTS][PANEL]) {
        for (int k = 0; k < PANEL; k += LANES) {
            Vector half[REACH][TAPS];
            for (int j = 0; j < TAPS; j++) {
                Vector column[TAPS], u[REACH];
                for (int i = 0; i < TAPS; i++) column[i] = load(taps[i * TAPS + j] + k);
                transform_weights<TAPS>(column, u);
                for (int i = 0; i < REACH; i++) half[i][j] = u[i];
            }
            for (int i = 0; i < REACH; i++) {
                Vector u[REACH];
                transform_weights<TAPS>(half[i], u);
                for (int j = 0; j < REACH; j++) store(points[i * REACH + j] + k, u[j]);
            }
        }
    }

    // points[36][some maps][channels in vectors], `apart`, to as many gradients of weights in
    // [rows][columns][maps][channels in vectors].
    void write_part(const float *points, int64_t apart, int64_t some, float *part) const {
        const int64_t all = maps * in_vectors(channels);
        for (int64_t at = 0; at < some * in_vectors(channels); at += LANES) {
            Vector half[TAPS][REACH];
            for (int j = 0; j < REACH; j++) {
                Vector u[REACH], v[TAPS];
                for (int i = 0; i < REACH; i++) u[i] = load(points + (i * REACH + j) * apart + at);
                gather_weights<TAPS>(u, v);
                for (int i = 0; i < TAPS; i++) half[i][j] = v[i];
            }
            for (int i = 0; i < TAPS; i++) {
                Vector v[TAPS];
                gather_weights<TAPS>(half[i], v);
                for (int j = 0; j < TAPS; j++) store(part + (i * TAPS + j) * all + at, v[j]);
            }
        }
    }

    // The sum of all parts, to where the gradients of weights are.
    void add_parts(const float *parts, int pieces, int64_t of_piece, const Steps &steps, float *gradient,
                   int threads) const {
        const int64_t deep = in_vectors(channels);
#pragma omp parallel for schedule(static) num_threads(threads)
        for (int64_t k = 0; k < maps; k++)
            for (int tap = 0; tap < TAPS * TAPS; tap++) {
                float *to = gradient + k * steps.map + tap / TAPS * steps.row + tap % TAPS * steps.column;
                for (int64_t c = 0; c < channels; c += LANES) {
                    const float *from = parts + (tap * maps + k) * deep + c;
                    Vector sum = load(from);
                    for (int piece = 1; piece < pieces; piece++) sum += load(from + piece * of_piece);
                    const int64_t count = channels - c < LANES ? channels - c : LANES;
                    if (steps.channel == 1)
                        store(to + c, sum, count);
                    else
                        for (int64_t lane = 0; lane < count; lane++) to[(c + lane) * steps.channel] = sum[lane];
                }
            }
    }

    // How the gradients of weights are cut up: each piece ends with a transform of all of them, and there are to be enough
    // for the threads, of which no more than there are pieces can help.
    int pieces() const {
        const int64_t fitting = MOST_OF_PARTS / (TAPS * TAPS * channels * maps), most = fitting < 2 ? 2 : fitting;
        const int64_t wanted = tiles / LEAST_OF_PIECE, least = wanted < most ? wanted : most;
        return static_cast<int>(least < 1 ? 1 : least > MOST_PIECES ? MOST_PIECES : least);
    }
    int64_t begin(int piece, int pieces) const {
        return piece == pieces ? tiles : tiles / GROUP * piece / pieces * GROUP;
    }
    int64_t longest(int pieces) const {
        int64_t most = 0;
        for (int piece = 0; piece < pieces; piece++) {
            const int64_t length = begin(piece + 1, pieces) - begin(piece, pieces);
            most = length > most ? length : most;
        }
        return most;
    }

    // How many tiles to work on at once: their points should stay in a core's cache, but weights are read anew for each
    // block, and threads should have blocks of one length.
    int64_t block_of_tiles(int64_t each) const {
        int64_t block = CACHE / (POINTS * (channels + maps));
        block = block < LEAST ? LEAST : block > MOST ? MOST : block;
        const int64_t blocks = (each + block - 1) / block;
        return ((each + blocks - 1) / blocks + GROUP - 1) / GROUP * GROUP;
    }
};

// sums[row][0 …] (+)= the sum over i of left[row × row_step + i × step] × right[i][0 …], for `rows` rows, rounded up to
// AT_ONCE of them.
template <typename Point, int VECTORS, bool ADD>
void multiply(int64_t rows, const Point *left, int64_t row_step, int64_t step, const Point *right, int64_t right_step,
              int64_t length, float *sums, int64_t sums_step) {
    constexpr int AT_ONCE = 2 * ROWS / VECTORS, FOUR = 4;
    static_assert(GROUP % AT_ONCE == 0 && LANES % AT_ONCE == 0, "there is room for so many tiles and channels");
    for (int64_t first = 0; first < rows; first += AT_ONCE) {
        const Point *from[AT_ONCE / FOUR];  // every fourth row: from these the others are reached by three offsets
        for (int r = 0; r < AT_ONCE; r += FOUR) from[r / FOUR] = left + (first + r) * row_step;
        const Point *across = right;
        Vector sum[AT_ONCE][VECTORS] = {};
        for (int64_t i = 0; i < length; i++) {
            Vector line[VECTORS];
            for (int v = 0; v < VECTORS; v++) line[v] = load(across + v * LANES);
            for (int r = 0; r < AT_ONCE; r++)
                for (int v = 0; v < VECTORS; v++)
                    sum[r][v] = multiply_add(from[r / FOUR][r % FOUR * row_step], line[v], sum[r][v]);
            for (const Point *&each : from) each += step;
            across += right_step;
        }
        for (int r = 0; r < AT_ONCE; r++)
            for (int v = 0; v < VECTORS; v++) {
                float *to = sums + (first + r) * sums_step + v * LANES;
                store(to, ADD ? load(to) + sum[r][v] : sum[r][v]);
            }
    }
}

// The same for as many columns as are left of a panel.
template <typename Point>
void multiply_panel(int64_t left_over, bool add, int64_t rows, const Point *left, int64_t row_step, int64_t step,
                    const Point *right, int64_t right_step, int64_t length, float *sums, int64_t sums_step) {
    const auto product = left_over > LANES ? (add ? multiply<Point, 2, true> : multiply<Point, 2, false>)
                                           : (add ? multiply<Point, 1, true> : multiply<Point, 1, false>);
    product(rows, left, row_step, step, right, right_step, length, sums, sums_step);
}

// y = x convolved with w, and the bias if there is one.
template <typename T, int TAPS>
void convolve(const Convolution<T, TAPS> &own, const T *x, const float *w, const float *bias, T *y, const Steps &steps,
              bool turned, int threads) {
    using Point = typename Factors<T>::Type;
    constexpr int EACH = Factors<T>::EACH;
    const int64_t deep = in_vectors(own.channels) / EACH, lines = own.channels / EACH, maps = in_vectors(own.maps);
    const int64_t panels = (maps + PANEL - 1) / PANEL;
    const int64_t block = own.block_of_tiles((own.tiles + threads - 1) / threads), blocks = (own.tiles + block - 1) / block;
    const int64_t in_apart = block * deep + GAP, out_apart = block * maps + GAP;
    const int64_t of_thread = POINTS * (in_apart + out_apart), apart = panels * lines * PANEL + GAP;
    const int busy = static_cast<int>(blocks < threads ? blocks : threads);
    const Room room(POINTS * apart + busy * of_thread);
    Point *const weights = reinterpret_cast<Point *>(room.begin);
    own.read_weights(w, steps, turned, weights, apart, threads);
#pragma omp parallel for schedule(dynamic) num_threads(busy)
    for (int64_t number = 0; number < blocks; number++) {
        float *const outputs = room.begin + POINTS * apart + omp_get_thread_num() * of_thread;
        Point *const inputs = reinterpret_cast<Point *>(outputs + POINTS * out_apart);
        const int64_t first = number * block, count = own.tiles - first < block ? own.tiles - first : block;
        Place place = own.find(first);
        for (int64_t t = 0; t < count; t++, place = own.after(place))
            own.template read<1>(own.inputs(x), {place}, inputs + t * deep, in_apart);
        for (int p = 0; p < POINTS; p++)
            for (int64_t panel = 0; panel < panels; panel++)
                multiply_panel(maps - panel * PANEL, false, count, inputs + p * in_apart, deep, 1,
                               weights + p * apart + panel * lines * PANEL, PANEL, lines,
                               outputs + p * out_apart + panel * PANEL, maps);
        place = own.find(first);
        for (int64_t t = 0; t < count; t++, place = own.after(place))
            own.write_output(outputs + t * maps, out_apart, place, bias, y);
    }
}

// The gradient of w. Tiles are cut into pieces, as many whatever the threads, and what the pieces give is added in order.
template <typename T, int TAPS>
void convolve_weights(const Convolution<T, TAPS> &own, const T *x, const T *g, float *gradient, const Steps &steps,
                      int threads) {
    using Point = typename Factors<T>::Type;
    constexpr int EACH = Factors<T>::EACH;
    const int64_t deep = in_vectors(own.channels), maps = in_vectors(own.maps);
    const int pieces = own.pieces(), busy = pieces < threads ? pieces : threads;
    const int64_t longest = own.longest(pieces), block = own.block_of_tiles(longest), lines = block / EACH;
    const bool at_once = longest <= block;  // then all of a piece's sums need not be there at the same time
    const int64_t fitting = FEW / (POINTS * deep) / GROUP * GROUP, some = at_once ? (fitting < GROUP ? GROUP : fitting) : maps;
    const int64_t x_apart = lines * deep + GAP, g_apart = lines * maps + GAP, apart = some * deep + GAP;
    const int64_t of_thread = POINTS * (x_apart + g_apart + apart), of_piece = TAPS * TAPS * own.maps * deep;
    const Room room(busy * of_thread + pieces * of_piece);
    float *const parts = room.begin + busy * of_thread;
#pragma omp parallel for schedule(dynamic) num_threads(busy)
    for (int piece = 0; piece < pieces; piece++) {
        float *const sums = room.begin + omp_get_thread_num() * of_thread;
        Point *const inputs = reinterpret_cast<Point *>(sums + POINTS * apart), *const gradients = inputs + POINTS * x_apart;
        const int64_t begin = own.begin(piece, pieces), end = own.begin(piece + 1, pieces);
        for (int64_t first = begin; first < end; first += block) {
            const int64_t count = ((end - first < block ? end - first : block) + EACH - 1) / EACH;
            Place place = own.find(first);
            for (int64_t t = 0; t < count; t++) {
                Place places[EACH];
                for (Place &each : places) {
                    each = place;
                    place = own.after(place);
                }
                own.template read<EACH>(own.inputs(x), places, inputs + t * deep, x_apart);
                own.template read<EACH>(own.gradients(g), places, gradients + t * maps, g_apart);
            }
            for (int64_t k = 0; k < own.maps; k += some) {
                const int64_t these = own.maps - k < some ? own.maps - k : some;
                for (int p = 0; p < POINTS; p++)
                    for (int64_t c = 0; c < deep; c += PANEL)
                        multiply_panel(deep - c, first > begin, these, gradients + p * g_apart + k, 1, maps,
                                       inputs + p * x_apart + c, deep, count, sums + p * apart + c, deep);
                if (first + block >= end) own.write_part(sums, apart, these, parts + piece * of_piece + k * deep);
            }
        }
    }
    own.add_parts(parts, pieces, of_piece, steps, gradient, threads);
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

// Whether it multiplies bfloat16: otherwise there is nothing here for such maps.
extern "C" int has_bfloat16_products() {
#if defined(__AVX512BF16__)
    return 1;
#else
    return 0;
#endif
}

// These two return 1 where there is not memory enough, otherwise 0. The gradient of x is the convolution of y's gradient
// with the weights turned, channels and maps exchanged.
#define FOR(T)                                                                                                         \
    extern "C" int convolve_##T(const T *x, const float *w, const float *bias, T *y, int64_t images, int64_t height,    \
                                int64_t width, int64_t channels, int64_t maps, int64_t padding, int64_t step_map,       \
                                int64_t step_channel, int64_t step_row, int64_t step_column, int taps, int turned,      \
                                int threads) {                                                                          \
        const Shape shape{images, height, width, channels, maps, padding};                                              \
        const Steps steps{step_map, step_channel, step_row, step_column};                                               \
        return told_of_memory([&] {                                                                                     \
            if (taps == 5)                                                                                              \
                convolve(Convolution<T, 5>(shape), x, w, bias, y, steps, turned, threads);                              \
            else                                                                                                        \
                convolve(Convolution<T, 3>(shape), x, w, bias, y, steps, turned, threads);                              \
        });                                                                                                             \
    }                                                                                                                   \
    extern "C" int convolve_weights_##T(const T *x, const T *g, float *gradient, int64_t images, int64_t height,        \
                                        int64_t width, int64_t channels, int64_t maps, int64_t padding,                 \
                                        int64_t step_map, int64_t step_channel, int64_t step_row, int64_t step_column,  \
                                        int taps, int threads) {                                                        \
        const Shape shape{images, height, width, channels, maps, padding};                                              \
        const Steps steps{step_map, step_channel, step_row, step_column};                                               \
        return told_of_memory([&] {                                                                                     \
            if (taps == 5)                                                                                              \
                convolve_weights(Convolution<T, 5>(shape), x, g, gradient, steps, threads);                             \
            else                                                                                                        \
                convolve_weights(Convolution<T, 3>(shape), x, g, gradient, steps, threads);                             \
        });                                                                                                             \
    }

using float32 = float;
FOR(float32)
#if defined(__AVX512BF16__)
FOR(bfloat16)
#endif
