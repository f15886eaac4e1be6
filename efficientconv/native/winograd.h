// Convolutions whose kernels are three columns wide, two columns of the output at a time: 4 products for 6.
//
// Winograd's F(2, 3) (Lavin and Gray, arXiv:1509.09308), along the rows only, where it adds little to the rounding:
// with d the four pixels that two neighbouring outputs read, and w the taps of a row of the kernel,
//
//     t = (d0 − d2, d1 + d2, d2 − d1, d1 − d3)     u = (w0, (w0 + w1 + w2)/2, (w0 − w1 + w2)/2, w2)
//     y0 = t0·u0 + t1·u1 + t2·u2                   y1 = t1·u1 − t2·u2 − t3·u3
//
// The outputs of the kernel's rows are summed before they are put together. The gradient of u is that of four products.
#pragma once
#include "image.h"

// A convolution that keeps the size of its images, (depth) → (width).
struct Winograd {
    Images images;
    Kernel kernel;
    long depth, width;

    static bool fits(const Images &images, const Kernel &kernel, long depth) {
        return kernel.columns == 3 && kernel.column_dilation == 1 && images.width % 2 == 0 && depth % 8 == 0;
    }
    long pairs() const { return images.width / 2; }
    long plane() const { return (images.height + 2 * kernel.above()) * pairs() * depth; }
    // Channels of x that share a vector, for eight outputs each.
    long sharing() const { return width == 8 && WIDEST == 16 ? 2 : 1; }
    long lanes() const { return width * sharing(); }
    long weights() const { return 4 * kernel.rows * depth * width; }
    long at(long part, long row, long k, long o) const {
        long n = sharing();
        return ((part * kernel.rows + row) * depth + k / n * n) * width + o * n + k % n;
    }
    // Rows of which the products lie in the nearest cache: whole blocks of eight pairs.
    long band() const {
        long rows = (32 + pairs() - 1) / pairs();
        while (rows * pairs() % 8) rows++;
        return rows;
    }
    long band_floats() const { return 4 * band() * pairs() * lanes(); }
    long band(long first) const { return std::min(band(), images.height - first); }

    template <class Function>
    void by_sharing(Function function) const {
        sharing() == 2 ? function(Size<2>()) : function(Size<1>());
    }
};

// t of each pair of pixels, each of its parts an image.
class Transformed {
  public:
    explicit Transformed(const Winograd &of) : of(of), data(4 * of.plane()) {}

    // The pairs that a row of the kernel reads for a row of the output and those behind it.
    Pixels tap(long part, long r, long row) const {
        return {data.data() + part * of.plane() + (r + row * of.kernel.row_dilation) * of.pairs() * of.depth, of.depth};
    }

    // From an image whose row r is row(r).
    template <class Row>
    void fill(Row row) const {
        by_lanes(of.depth, [&](auto lanes) {
            for (long r = 0; r < of.images.height; r++)
                for (long c = 0; c < of.depth; c += decltype(lanes)::value)
                    fill_row<decltype(lanes)::value>(row(r).from(0, c), written(r).from(0, c));
        });
    }

  private:
    Pixels written(long r) const { return {data.data() + (r + of.kernel.above()) * of.pairs() * of.depth, of.depth}; }

    template <int L>
    void fill_row(Pixels x, Pixels row) const {
        Vec<L> d0 = {}, d1 = load<L>(x[0]);
        long plane = of.plane();
        for (long q = 0; q < of.pairs(); q++) {
            float *to = row[q];
            Vec<L> d2 = load<L>(x[2 * q + 1]), d3 = q + 1 < of.pairs() ? load<L>(x[2 * q + 2]) : Vec<L>{};
            store<L>(to, d0 - d2);
            store<L>(to + plane, d1 + d2);
            store<L>(to + 2 * plane, d2 - d1);
            store<L>(to + 3 * plane, d1 - d3);
            d0 = d2;
            d1 = d3;
        }
    }

    const Winograd of;
    Vector data;
};

// u of the kernel w(row, column, k, o), in the order of the products.
template <class Weight>
Vector transformed_kernel(const Winograd &of, Weight w) {
    Vector u(of.weights());
    for (long row = 0; row < of.kernel.rows; row++)
        for (long k = 0; k < of.depth; k++)
            for (long o = 0; o < of.width; o++) {
                float w0 = w(row, 0, k, o), w1 = w(row, 1, k, o), w2 = w(row, 2, k, o);
                u[of.at(0, row, k, o)] = w0;
                u[of.at(1, row, k, o)] = (w0 + w1 + w2) / 2;
                u[of.at(2, row, k, o)] = (w0 - w1 + w2) / 2;
                u[of.at(3, row, k, o)] = w2;
            }
    return u;
}

// Calls with the gradient of the kernel, add(row, column, k, o, value), for that of u.
template <class Add>
void transform_gradient_back(const Winograd &of, const float *by_u, Add add) {
    for (long row = 0; row < of.kernel.rows; row++)
        for (long k = 0; k < of.depth; k++)
            for (long o = 0; o < of.width; o++) {
                float by[4];
                for (long part = 0; part < 4; part++) by[part] = by_u[of.at(part, row, k, o)];
                add(row, 0, k, o, by[0] + (by[1] + by[2]) / 2);
                add(row, 1, k, o, (by[1] - by[2]) / 2);
                add(row, 2, k, o, (by[1] + by[2]) / 2 + by[3]);
            }
}

// Puts the pairs of a row together: y = bias + what the four products make.
template <int B>
void put_together(const Winograd &of, const float *products, long part, const float *bias, Pixels y) {
    constexpr int L = 8;
    for (long q = 0; q < of.pairs(); q++, products += of.lanes())
        for (long c = 0; c < of.lanes(); c += L * B) {
            Vec<L * B> m[4];
            for (int i = 0; i < 4; i++) m[i] = load<L * B>(products + i * part + c);
            Vec<L * B> both[2] = {m[0] + m[1] + m[2], m[1] - m[2] - m[3]};
            for (int i = 0; i < 2; i++) {
                Vec<L> sum;
                if constexpr (B == 1)
                    sum = both[i];
                else
                    sum = __builtin_shufflevector(both[i], both[i], 0, 2, 4, 6, 8, 10, 12, 14) +
                          __builtin_shufflevector(both[i], both[i], 1, 3, 5, 7, 9, 11, 13, 15);
                store<L>(y[2 * q + i] + c / B, bias ? sum + load<L>(bias + c / B) : sum);
            }
        }
}

// row(r) = the convolution of a row; products has room for band_floats().
template <class Row>
void convolve(const Winograd &of, const Transformed &x, const float *u, const float *bias, Vector &products, Row row) {
    std::vector<long> offsets(of.kernel.rows);
    for (long i = 0; i < of.kernel.rows; i++) offsets[i] = x.tap(0, 0, i).data - x.tap(0, 0, 0).data;
    long part = of.band() * of.pairs() * of.lanes();
    of.by_sharing([&](auto sharing) {
        constexpr int B = decltype(sharing)::value;
        for (long first = 0; first < of.images.height; first += of.band()) {
            for (long i = 0; i < 4; i++)
                convolve<Start::zero, B>(x.tap(i, first, 0), {of.kernel.rows, offsets.data()},
                                         of.band(first) * of.pairs(), of.depth / B, u + i * of.weights() / 4,
                                         of.lanes(), nullptr, {products.data() + i * part, of.lanes()});
            for (long r = 0; r < of.band(first); r++)
                put_together<B>(of, products.data() + r * of.pairs() * of.lanes(), part, bias, row(first + r));
        }
    });
}

// The gradient of the products of one row.
template <int B>
void take_apart(const Winograd &of, Pixels by_y, long part, float *products) {
    constexpr int L = 8;
    for (long q = 0; q < of.pairs(); q++, products += of.lanes())
        for (long c = 0; c < of.lanes(); c += L * B) {
            Vec<L> by[2] = {load<L>(by_y[2 * q] + c / B), load<L>(by_y[2 * q + 1] + c / B)};
            Vec<L> parts[4] = {by[0], by[0] + by[1], by[0] - by[1], -by[1]};
            for (int i = 0; i < 4; i++)
                if constexpr (B == 1)
                    store<L>(products + i * part + c, parts[i]);
                else
                    store<2 * L>(products + i * part + c, __builtin_shufflevector(parts[i], parts[i], 0, 0, 1, 1, 2, 2,
                                                                                  3, 3, 4, 4, 5, 5, 6, 6, 7, 7));
        }
}

// by_u += its gradient, for the gradient row(r) of a row of y.
template <class Row>
void add_kernel_gradient(const Winograd &of, const Transformed &x, Row row, Vector &products, float *by_u) {
    long part = of.band() * of.pairs() * of.lanes();
    of.by_sharing([&](auto sharing) {
        constexpr int B = decltype(sharing)::value;
        for (long first = 0; first < of.images.height; first += of.band()) {
            for (long r = 0; r < of.band(first); r++)
                take_apart<B>(of, row(first + r), part, products.data() + r * of.pairs() * of.lanes());
            for (long i = 0; i < 4; i++)
                for (long tap = 0; tap < of.kernel.rows; tap++)
                    add_products<B>(x.tap(i, first, tap), of.depth / B, {products.data() + i * part, of.lanes()},
                                    of.lanes(), of.band(first) * of.pairs(), {by_u + of.at(i, tap, 0, 0), of.lanes()});
        }
    });
}
