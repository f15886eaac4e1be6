// Convolutions in groups, with full vectors however narrow a group is.
//
// Wide groups are dense convolutions side by side. For narrow ones an image is laid out in planes: plane d holds
// channel d of each group, as often as the group has outputs. Each plane then meets the outputs channel by channel, and
// y = Σ weight[tap][d]·plane[d][tap]: the multiply-adds of the groups and no others.
#pragma once
#include "image.h"

// `number` groups, each of `depth` channels to `width`.
struct Groups {
    Kernel kernel;
    long number, depth, width;

    long in() const { return number * depth; }
    long out() const { return number * width; }
    long size() const { return kernel.taps() * depth * out(); }
    bool wide() const { return width % WIDEST == 0; }
    long unit() const { return out() % WIDEST ? 2 * out() : out(); }  // one or two pixels, so that vectors are whole

    // Where a weight lies: (number, taps, depth, width) if wide, else (taps, depth, number, width).
    long at(long tap, long d, long group, long j) const {
        if (wide()) return ((group * kernel.taps() + tap) * depth + d) * width + j;
        return ((tap * depth + d) * number + group) * width + j;
    }

    // Those of the gradient of x, which is a convolution of the gradient of y with the kernel turned.
    Groups turned() const { return {kernel, number, width, depth}; }
};

// Calls with each weight's place here, in the turned groups, and in a module's kernel, (out, depth, taps).
template <class Function>
inline void for_weights(const Groups &groups, Function function) {
    long taps = groups.kernel.taps();
    Groups turned = groups.turned();
    for (long o = 0; o < groups.out(); o++) {
        long group = o / groups.width, j = o % groups.width;
        for (long d = 0; d < groups.depth; d++)
            for (long tap = 0; tap < taps; tap++)
                function(groups.at(tap, d, group, j), turned.at(taps - 1 - tap, j, group, d),
                         (o * groups.depth + d) * taps + tap);
    }
}

// Calls with the largest of 8, 4 and 1 that divides the width of a group.
template <class Function>
inline void by_runs(long width, Function function) {
    width % 8 == 0 ? function(Size<8>()) : width % 4 == 0 ? function(Size<4>()) : function(Size<1>());
}

// Writes pixels of x in planes, `apart` floats from each other.
inline void spread_one(const float *x, const Groups &groups, float *planes, long apart) {
    by_runs(groups.width, [&](auto lanes) {
        constexpr int L = decltype(lanes)::value;
        for (long group = 0; group < groups.number; group++)
            for (long d = 0; d < groups.depth; d++)
                for (long j = 0; j < groups.width; j += L)
                    store<L>(planes + d * apart + group * groups.width + j, x[group * groups.depth + d] - Vec<L>{});
    });
}

// The same where a vector takes the outputs of RUNS groups, of one pixel or of two neighbours.
template <int RUNS>
void spread_vectors(Pixels x, long units, const Groups &groups, float *planes, long apart) {
    constexpr int L = WIDEST, EACH = L / RUNS;
    Mask<L> within[RUNS];
    for (int i = 0; i < RUNS; i++)
        for (int lane = 0; lane < L; lane++) within[i][lane] = lane / EACH == i ? -1 : 0;
    long out = groups.out(), unit = groups.unit(), next = x.stride * unit / out;
    for (long c = 0; c < unit; c += L) {
        long first[RUNS];
        for (int i = 0; i < RUNS; i++)
            first[i] = (c + i * EACH) / out * x.stride + (c + i * EACH) % out / EACH * groups.depth;
        for (long u = 0; u < units; u++)
            for (long d = 0; d < groups.depth; d++) {
                const float *from = x.data + u * next + d;
                Vec<L> value = from[first[0]] - Vec<L>{};
#pragma GCC unroll 4
                for (int i = 1; i < RUNS; i++) value = within[i] ? from[first[i]] - Vec<L>{} : value;
                store<L>(planes + d * apart + u * unit + c, value);
            }
    }
}

inline void spread(Pixels x, long pixels, const Groups &groups, float *planes, long apart) {
    long units = pixels * groups.out() / groups.unit(), done = units * groups.unit() / groups.out();
    if (groups.width * 2 == WIDEST)
        spread_vectors<2>(x, units, groups, planes, apart);
    else if (groups.width * 4 == WIDEST)
        spread_vectors<4>(x, units, groups, planes, apart);
    else
        done = 0;
    for (long p = done; p < pixels; p++) spread_one(x[p], groups, planes + p * groups.out(), apart);
}

// The sums for R units, whose size is known where it is that of a vector.
template <int R, int UNIT>
inline void sum_planes(const float *planes, Taps taps, const float *w, long size, float *y) {
    const long unit = UNIT ? UNIT : size;
    Vec<WIDEST> sum[R] = {};
    for (long t = 0; t < taps.number; t++, w += unit) {
        const float *from = planes + taps.at[t];
        Vec<WIDEST> factor = load<WIDEST>(w);
#pragma GCC unroll 8
        for (int i = 0; i < R; i++) sum[i] += factor * load<WIDEST>(from + i * unit);
    }
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) store<WIDEST>(y + i * unit, sum[i]);
}

// The same for 8 units of one vector and rows of three taps: what a plane holds at a pixel is loaded once for all
// three. K pixels are in a unit; `taps` tells where the first of each row of taps lies.
template <int K>
inline void sum_by_threes(const float *planes, Taps taps, long depth, long apart, const float *w, float *y) {
    constexpr int L = WIDEST, R = 8, T = 3, D = 4;
    Vec<L> sum[R] = {};
    for (long row = 0; row < taps.number; row += T)
        for (long d = 0; d < depth; d += D) {
            const float *from = planes + taps.at[row * depth + d];
            Vec<L> factor[T][D];
#pragma GCC unroll 4
            for (int t = 0; t < T; t++)
#pragma GCC unroll 4
                for (int i = 0; i < D; i++) factor[t][i] = load<L>(w + ((row + t) * depth + d + i) * L);
#pragma GCC unroll 32
            for (int m = 0; m < (R - 1) * K + T; m++)
#pragma GCC unroll 4
                for (int i = 0; i < D; i++) {
                    Vec<L> value = load<L>(from + i * apart + m * (L / K));
#pragma GCC unroll 4
                    for (int t = 0; t < T; t++)
                        if (m >= t && (m - t) % K == 0 && (m - t) / K < R) sum[(m - t) / K] += value * factor[t][i];
                }
        }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) store<L>(y + r * L, sum[r]);
}

// A convolution of one image, with the room that it needs.
class GroupedConvolution {
  public:
    GroupedConvolution(const Images &images, const Groups &groups, const Vector &weights)
        : images(images), groups(groups), w(weights), x(images, groups.kernel, groups.wide() ? groups.in() : 0) {
        groups.wide() ? leave_out_zeros(weights) : lay_out(weights);
    }

    // Takes a row of x, all of which are needed before the first of y.
    void take(long r, Pixels row) {
        if (!groups.wide()) return spread(row, images.width, groups, plane_row(r), apart);
        for (long p = 0; p < images.width; p++)
            for (long c = 0; c < groups.in(); c += 8) store<8>(x.row(r)[p] + c, load<8>(row[p] + c));
    }

    // Writes a row of y.
    void give(long r, Pixels y) {
        if (!groups.wide()) return sum_row(r, y);
        Taps taps{(long)offsets.size(), offsets.data()};
        long each = taps.number * groups.depth * groups.width;
        for (long g = 0; g < groups.number; g++)
            convolve(x.tap(r, 0).from(0, g * groups.depth), taps, images.width, groups.depth, w.data() + g * each,
                     groups.width, nullptr, y.from(0, g * groups.width));
    }

  private:
    // Keeps the taps that are not zero everywhere: a kernel of windows has many that are.
    void leave_out_zeros(const Vector &weights) {
        long taps = groups.kernel.taps(), size = groups.depth * groups.width;
        std::vector<bool> is_needed(taps);
        for (size_t at = 0; at < weights.size(); at++)
            if (weights[at] != 0) is_needed[at / size % taps] = true;
        for (long tap = 0; tap < taps; tap++)
            if (is_needed[tap]) offsets.push_back(x.taps().at[tap]);
        w.clear();
        for (long at = 0; at < groups.number * taps; at++)
            if (is_needed[at % taps]) w.insert(w.end(), &weights[at * size], &weights[at * size] + size);
    }

    // A unit of one or two pixels fills whole vectors; the second of the last may lie beyond the row.
    void lay_out(const Vector &weights) {
        const Kernel &kernel = groups.kernel;
        long out = groups.out(), rows = images.height + 2 * kernel.above();
        across = images.width + 2 * kernel.left();
        apart = rows * across * out;
        planes.resize(groups.depth * apart + out);
        w.resize(weights.size() / out * groups.unit());
        for (size_t at = 0; at < w.size(); at++) w[at] = weights[at / groups.unit() * out + at % out];
        for (long tap = 0; tap < kernel.taps(); tap++)
            for (long d = 0; d < groups.depth; d++)
                offsets.push_back(d * apart + (tap / kernel.columns * kernel.row_dilation * across +
                                               tap % kernel.columns * kernel.column_dilation) *
                                                  out);
        sums.resize((images.width + 1) * out);
    }

    float *plane_row(long r) {
        return &planes[((r + groups.kernel.above()) * across + groups.kernel.left()) * groups.out()];
    }

    void sum_row(long r, Pixels y) {
        groups.unit() == WIDEST ? sum_units<WIDEST>(r) : sum_units<0>(r);
        for (long p = 0; p < images.width; p++)
            for (long c = 0; c < groups.out(); c += 8) store<8>(y[p] + c, load<8>(&sums[p * groups.out() + c]));
    }

    template <int UNIT>
    void sum_units(long r) {
        long unit = groups.unit(), units = (images.width * groups.out() + unit - 1) / unit;
        const float *from = &planes[r * across * groups.out()];
        Taps taps{(long)offsets.size(), offsets.data()};
        for (long c = 0; c < unit; c += WIDEST) {
            auto sum = [&](auto size, long u) {
                constexpr int R = decltype(size)::value;
                if constexpr (R == 8 && UNIT == WIDEST)
                    if (by_threes()) return sum_eight(from + u * unit, &sums[u * unit]);
                sum_planes<R, UNIT>(from + u * unit + c, taps, &w[c], unit, &sums[u * unit + c]);
            };
            long u = 0;
            for (; u + 8 <= units; u += 8) sum(Size<8>(), u);
            if (u < units && units >= 8) sum(Size<8>(), units - 8);
            for (; u < units && units < 8; u++) sum(Size<1>(), u);
        }
    }

    bool by_threes() const {
        return groups.kernel.columns == 3 && groups.kernel.column_dilation == 1 && groups.depth % 4 == 0;
    }

    void sum_eight(const float *from, float *y) const {
        Taps taps{groups.kernel.taps(), offsets.data()};
        if (groups.out() == WIDEST)
            sum_by_threes<1>(from, taps, groups.depth, apart, w.data(), y);
        else
            sum_by_threes<2>(from, taps, groups.depth, apart, w.data(), y);
    }

    const Images images;
    const Groups groups;
    Vector w, planes, sums;
    std::vector<long> offsets;
    long across = 0, apart = 0;
    Padded x;
};

// The gradient of T neighbouring taps' weights for D planes, for one row; by_y is where the first tap reads.
template <int L, int T, int D>
inline void gradient_of_planes(const float *planes, long apart, Pixels by_y, long step, long pixels, float *w,
                               const Groups &groups) {
    Vec<L> sum[T][D] = {};
    for (long p = 0; p < pixels; p++) {
        Vec<L> by[T];
#pragma GCC unroll 4
        for (int t = 0; t < T; t++) by[t] = load<L>(by_y[p - t * step]);
#pragma GCC unroll 4
        for (int d = 0; d < D; d++) {
            Vec<L> value = load<L>(planes + d * apart + p * groups.out());
#pragma GCC unroll 4
            for (int t = 0; t < T; t++) sum[t][d] += by[t] * value;
        }
    }
    for (int t = 0; t < T; t++)
        for (int d = 0; d < D; d++) {
            float *at = w + (t * groups.depth + d) * groups.out();
            store<L>(at, load<L>(at) + sum[t][d]);
        }
}

// The gradient of a convolution's weights, with the room that it needs.
class GroupedGradient {
  public:
    GroupedGradient(const Images &images, const Groups &groups)
        : images(images), groups(groups), planes(groups.wide() ? 0 : groups.depth * images.width * groups.out()) {}

    // w += that of row r of x, and of what it has met of y.
    void add(long r, Pixels x, const Padded &by_y, float *w) {
        if (groups.wide()) return add_dense(r, x, by_y, w);
        spread(x, images.width, groups, planes.data(), images.width * groups.out());
        by_lanes(groups.out(), [&](auto lanes) { add_planes<decltype(lanes)::value>(r, by_y, w); });
    }

  private:
    void add_dense(long r, Pixels x, const Padded &by_y, float *w) {
        for (long g = 0; g < groups.number; g++)
            for (long tap = 0; tap < groups.kernel.taps(); tap++)
                add_products(x.from(0, g * groups.depth), groups.depth,
                             by_y.tap(r, groups.kernel.taps() - 1 - tap).from(0, g * groups.width), groups.width,
                             images.width, w + groups.at(tap, 0, g, 0));
    }

    template <int L>
    void add_planes(long r, const Padded &by_y, float *w) {
        long columns = groups.kernel.columns, taps = groups.kernel.taps();
        for (long c = 0; c < groups.out(); c += L)
            for (long row = 0; row < taps; row += columns)
                in_steps<3>(columns, [&](auto some, long tap) {
                    Pixels by = by_y.tap(r, taps - 1 - row - tap).from(0, c);
                    in_steps<4>(groups.depth, [&](auto depth, long d) {
                        constexpr int T = decltype(some)::value, D = decltype(depth)::value;
                        long apart = images.width * groups.out();
                        gradient_of_planes<L, T, D>(&planes[d * apart + c], apart, by, groups.kernel.column_dilation,
                                                    images.width, w + groups.at(row + tap, d, 0, c), groups);
                    });
                });
    }

    // Calls with N numbers below a limit at a time, then with one.
    template <int N, class Function>
    static void in_steps(long limit, Function function) {
        long i = 0;
        for (; i + N <= limit; i += N) function(Size<N>(), i);
        for (; i < limit; i++) function(Size<1>(), i);
    }

    const Images images;
    const Groups groups;
    Vector planes;
};
