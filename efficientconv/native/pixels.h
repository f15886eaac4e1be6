// Products of pixels whose channels come last: y = x·w and its gradients, for a block of pixels in registers.
//
// Vectors are GCC's, of L floats, 8 or 16: any processor has them, of its own width or of several of its own.
#pragma once
#include <type_traits>

template <int L>
using Vec __attribute__((vector_size(L * sizeof(float)), aligned(sizeof(float)), may_alias)) = float;

template <int L>
using Mask __attribute__((vector_size(L * sizeof(int)))) = int;

template <int L>
inline Vec<L> load(const float *at) {
    return *reinterpret_cast<const Vec<L> *>(at);
}

template <int L>
inline void store(float *at, Vec<L> value) {
    *reinterpret_cast<Vec<L> *>(at) = value;
}

template <int N>
using Size = std::integral_constant<int, N>;

#ifdef __AVX512F__
constexpr int WIDEST = 16, REGISTERS = 32;
#else
constexpr int WIDEST = 8, REGISTERS = 16;
#endif

// Calls with the number of lanes that divides a width, a multiple of 8.
template <class Function>
inline void by_lanes(long width, Function function) {
    width % WIDEST ? function(Size<8>()) : function(Size<WIDEST>());
}

// Calls with blocks of eight pixels of a row, then of one.
template <class Function>
inline void by_pixels(long width, Function function) {
    long p = 0;
    for (; p + 8 <= width; p += 8) function(Size<8>(), p);
    for (; p < width; p++) function(Size<1>(), p);
}

// Rows of floats, one a pixel, `stride` apart.
struct Pixels {
    float *data;
    long stride;

    Pixels(const float *data, long stride) : data(const_cast<float *>(data)), stride(stride) {}
    float *operator[](long pixel) const { return data + pixel * stride; }
    Pixels from(long pixel, long channel = 0) const { return {data + pixel * stride + channel, stride}; }
};

// Where the taps of a kernel lie: floats behind the first one's pixel.
struct Taps {
    long number;
    const long *at;
};

enum class Start { zero, bias, y };  // what a product is added to

// Σ x[tap]·w[tap]; w: (taps, depth, width), one row a pixel.
struct Product {
    Pixels x;
    Taps taps;
    long depth;
    Pixels w;
};

// row times B neighbouring floats, one after the other in its lanes.
template <int L, int B>
inline Vec<L> times(const float *at, Vec<L> row) {
    if constexpr (B == 1) return *at * row;
    using Two __attribute__((aligned(sizeof(float)), may_alias)) = long long;
    using Twos __attribute__((vector_size(L * sizeof(float)))) = long long;
    return (Vec<L>)(*reinterpret_cast<const Two *>(at) + Twos{}) * row;
}

// Adds the product for R pixels from p on, and V vectors of channels from c on.
template <int L, int V, int R, int B>
inline void add_product(const Product &product, long p, long c, Vec<L> (&sum)[R][V]) {
    Pixels x = product.x.from(p);
    const float *w = product.w.data + c;
    for (long tap = 0; tap < product.taps.number; tap++) {
        const float *from = x.data + product.taps.at[tap];
        for (long k = 0; k < product.depth; k++, w += product.w.stride) {
            Vec<L> row[V];
#pragma GCC unroll 4
            for (int v = 0; v < V; v++) row[v] = load<L>(w + v * L);
#pragma GCC unroll 16
            for (int r = 0; r < R; r++)
#pragma GCC unroll 4
                for (int v = 0; v < V; v++) sum[r][v] += times<L, B>(from + r * x.stride + k * B, row[v]);
        }
    }
}

template <int L, int V, int R, Start START, int B, int N>
inline void multiply_block(const Product (&products)[N], long p, long c, const float *bias, Pixels y) {
    Vec<L> sum[R][V];
    y = y.from(p, c);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) {
            if constexpr (START == Start::zero) sum[r][v] = Vec<L>{};
            if constexpr (START == Start::bias) sum[r][v] = load<L>(bias + c + v * L);
            if constexpr (START == Start::y) sum[r][v] = load<L>(y[r] + v * L);
        }
    for (const Product &product : products) add_product<L, V, R, B>(product, p, c, sum);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) store<L>(y[r] + v * L, sum[r][v]);
}

// Calls with the lanes of a vector, how many vectors to take at once, and the first channel of each of them. One vector
// at a time is the slowest: 24 channels are three of eight.
template <class Function>
inline void by_columns(long width, Function function) {
    constexpr int L = WIDEST;
    long c = 0, odd = width % L == 8 && width >= 24 ? 24 : width % L;
    for (; c + 3 * L <= width - odd; c += 3 * L) function(Size<L>(), Size<3>(), c);
    for (; c + 2 * L <= width - odd; c += 2 * L) function(Size<L>(), Size<2>(), c);
    for (; c + L <= width - odd; c += L) function(Size<L>(), Size<1>(), c);
    for (; c + 24 <= width; c += 24) function(Size<8>(), Size<3>(), c);
    for (; c < width; c += 8) function(Size<8>(), Size<1>(), c);
}

// y = the products + start, (pixels, width); width is a multiple of 8.
template <Start START, int B = 1, int N>
void add_up(const Product (&products)[N], long pixels, long width, const float *bias, Pixels y) {
    by_columns(width, [&](auto lanes, auto vectors, long c) {
        constexpr int L = decltype(lanes)::value, V = decltype(vectors)::value;
        long p = 0;
        auto blocks_of = [&](auto rows) {
            constexpr int R = decltype(rows)::value;
            for (; p + R <= pixels; p += R) multiply_block<L, V, R, START, B>(products, p, c, bias, y);
        };
        if constexpr (REGISTERS == 32 && V == 1 && B == 1) blocks_of(Size<16>());
        if constexpr (REGISTERS == 32 || V == 1) blocks_of(Size<8>());
        blocks_of(Size<4>()), blocks_of(Size<2>()), blocks_of(Size<1>());
    });
}

// y = Σ x[tap]·w[tap] + start: (pixels, depth)·(taps, depth, width) → (pixels, width); width is a multiple of 8.
//
// With B = 2 channel k of x is two neighbouring ones, 2k for the even lanes and 2k + 1 for the odd ones, so that eight
// outputs fill a vector of 16: each is the sum of two lanes.
template <Start START = Start::zero, int B = 1>
void convolve(Pixels x, Taps taps, long pixels, long depth, const float *w, long width, const float *bias, Pixels y) {
    add_up<START, B>({{x, taps, depth, {w, width}}}, pixels, width, bias, y);
}

// y = x·w + start: (pixels, depth)·(depth, width) → (pixels, width), w one row a pixel; width is a multiple of 8.
template <Start START = Start::zero>
void multiply(Pixels x, long pixels, long depth, Pixels w, long width, Pixels y) {
    const long here = 0;
    add_up<START>({{x, {1, &here}, depth, w}}, pixels, width, nullptr, y);
}

// With a bias.
template <Start START = Start::zero>
void multiply(Pixels x, long pixels, long depth, const float *w, long width, const float *bias, Pixels y) {
    const long here = 0;
    convolve<START>(x, {1, &here}, pixels, depth, w, width, bias, y);
}

// So many rows of pixels, and how many floats one lies behind the other.
struct Lines {
    long number, of_x, of_y;
};

template <int L, int V, int K, int B>
inline void gradient_block(Pixels x, Pixels y, long pixels, Lines lines, Pixels w) {
    Vec<L> sum[K][V];
#pragma GCC unroll 16
    for (int k = 0; k < K; k++)
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) sum[k][v] = load<L>(w[k] + v * L);
    for (; lines.number--; x.data += lines.of_x, y.data += lines.of_y)
        for (long p = 0; p < pixels; p++) {
            Vec<L> row[V];
#pragma GCC unroll 4
            for (int v = 0; v < V; v++) row[v] = load<L>(y[p] + v * L);
#pragma GCC unroll 16
            for (int k = 0; k < K; k++)
#pragma GCC unroll 4
                for (int v = 0; v < V; v++) sum[k][v] += times<L, B>(x[p] + k * B, row[v]);
        }
#pragma GCC unroll 16
    for (int k = 0; k < K; k++)
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) store<L>(w[k] + v * L, sum[k][v]);
}

// w += xᵀ·y: (pixels, depth), (pixels, width) → (depth, width), one row a pixel; width is a multiple of 8. B is as
// in convolve.
template <int B = 1>
inline void add_products(Pixels x, long depth, Pixels y, long width, long pixels, Pixels w, Lines lines = {1, 0, 0}) {
    by_columns(width, [&](auto lanes, auto vectors, long c) {
        constexpr int L = decltype(lanes)::value, V = decltype(vectors)::value;
        long k = 0;
        auto blocks_of = [&](auto rows) {
            constexpr int K = decltype(rows)::value;
            for (; k + K <= depth; k += K)
                gradient_block<L, V, K, B>(x.from(0, k * B), y.from(0, c), pixels, lines, w.from(k, c));
        };
        if constexpr (REGISTERS == 32 && V == 1) blocks_of(Size<16>()), blocks_of(Size<12>());
        if constexpr (REGISTERS == 32 || V == 1) blocks_of(Size<8>());
        blocks_of(Size<4>()), blocks_of(Size<1>());
    });
}

inline void add_products(Pixels x, long depth, Pixels y, long width, long pixels, float *w) {
    add_products(x, depth, y, width, pixels, {w, width});
}
