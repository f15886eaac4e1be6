// SlimConv's passes over activations, image by image.
//
// x, weighted and folded onto itself, is u₁, and with the weights flipped u₂. The first path convolves u₁ to y₁; the
// second narrows u₂ to m, and convolves v = ReLU(norm(m)) to y₂. z is both, normalised. u and v never leave the cache:
// the backward pass computes them again.
#pragma once
#include "norm.h"

struct Layer {
    Images images;
    Kernel kernel;
    long in, parts, hidden, out, restores;
    double epsilon_gate, epsilon1, epsilon2, epsilon3;
    long first() const { return in / parts; }
    long second() const { return first() / 2; }
    long both() const { return first() + second(); }
};

// The weights as the passes take them.
struct Weights {
    const float *kernel1, *narrow;   // (taps, first, first), (first, second)
    const float *kernel2, *restore;  // (taps, second, second), (both, out)
};

// An image of a batch.
inline Pixels image_of(const Layer &layer, const float *data, long channels, long n) {
    return {data + n * layer.images.pixels() * channels, channels};
}

// u, (pixels, first): the sum of the parts of x, weighted.
inline void fold(const Layer &layer, Pixels x, const float *weights, long pixels, Pixels u) {
    by_lanes(layer.first(), [&](auto lanes) {
        constexpr int L = decltype(lanes)::value;
        for (long p = 0; p < pixels; p++)
            for (long c = 0; c < layer.first(); c += L) {
                Vec<L> sum = {};
                for (long at = c; at < layer.in; at += layer.first()) sum += load<L>(x[p] + at) * load<L>(weights + at);
                store<L>(u[p] + c, sum);
            }
    });
}

// The gates of an image from the last to the first.
inline Vector flipped(const Layer &layer, const float *gates) {
    Vector result(gates, gates + layer.in);
    std::reverse(result.begin(), result.end());
    return result;
}

enum class Bend { none, relu };

// y = scale·x + shift, bent.
template <Bend BEND>
void normalize(Pixels x, long pixels, const Norm &norm, Pixels y) {
    long channels = norm.scale.size();
    by_lanes(channels, [&](auto lanes) {
        constexpr int L = decltype(lanes)::value;
        for (long p = 0; p < pixels; p++)
            for (long c = 0; c < channels; c += L) {
                Vec<L> value = load<L>(x[p] + c) * load<L>(&norm.scale[c]) + load<L>(&norm.shift[c]);
                store<L>(y[p] + c, BEND == Bend::relu && value < 0 ? Vec<L>{} : value);
            }
    });
}

template <Bend BEND>
void normalize_image(const Layer &layer, Pixels x, const Norm &norm, const Padded &y) {
    for (long r = 0; r < layer.images.height; r++)
        normalize<BEND>(x.from(r * layer.images.width), layer.images.width, norm, y.row(r));
}

inline void measure(const Layer &layer, Pixels y, float *mean, float *squares) {
    by_lanes(y.stride,
             [&](auto lanes) { moments<decltype(lanes)::value>(y, layer.images.pixels(), y.stride, mean, squares); });
}

// What a thread needs for one image.
struct Room {
    Padded u1, v;
    Vector floats;
    Pixels u2;  // of one row

    explicit Room(const Layer &layer)
        : u1(layer.images, layer.kernel, layer.first()), v(layer.images, layer.kernel, layer.second()),
          floats(layer.images.width * layer.first()), u2(floats.data(), layer.first()) {}
};

// From x to y₁ and m, of one image.
inline void begin_image(const Layer &layer, const Weights &weights, Pixels x, const float *gates, const float *flipped,
                        const Room &room, Pixels y1, Pixels m) {
    long width = layer.images.width;
    for (long r = 0; r < layer.images.height; r++) {
        fold(layer, x.from(r * width), gates, width, room.u1.row(r));
        fold(layer, x.from(r * width), flipped, width, room.u2);
        multiply(room.u2, width, layer.first(), weights.narrow, layer.second(), nullptr, m.from(r * width));
    }
    convolve(room.u1, weights.kernel1, layer.first(), nullptr, y1);
}

// From m to y₂, of one image.
inline void go_on_with_image(const Layer &layer, const Weights &weights, Pixels m, const Norm &norm, const Room &room,
                             Pixels y2) {
    normalize_image<Bend::relu>(layer, m, norm, room.v);
    convolve(room.v, weights.kernel2, layer.second(), nullptr, y2);
}

// From y₁ and y₂ to the output, of one image; z: room for a row of both.
inline void end_image(const Layer &layer, const Weights &weights, Pixels y1, Pixels y2, const Norm &norm1,
                      const Norm &norm2, Pixels z, Pixels out) {
    long width = layer.images.width;
    for (long first = 0; first < layer.images.pixels(); first += width) {
        Pixels to = layer.restores ? z : out.from(first);
        auto normalize_both = [&](auto bend) {
            normalize<decltype(bend)::value>(y1.from(first), width, norm1, to);
            normalize<decltype(bend)::value>(y2.from(first), width, norm2, to.from(0, layer.first()));
        };
        if (!layer.restores) {
            normalize_both(std::integral_constant<Bend, Bend::none>());
            continue;
        }
        normalize_both(std::integral_constant<Bend, Bend::relu>());
        multiply(z, width, layer.both(), weights.restore, layer.out, nullptr, out.from(first));
    }
}

// The sums over pixels of by·(y − mean) and of by, added to.
struct NormSums {
    float *scale, *offset;

    void add(Pixels by, Pixels y, long pixels, const Vector &mean) const {
        by_lanes(mean.size(), [&](auto lanes) {
            constexpr int L = decltype(lanes)::value;
            for (size_t c = 0; c < mean.size(); c += L) {
                Vec<L> middle = load<L>(&mean[c]), of_scale = sum_over<L>(pixels, [&](long p) {
                                                       return load<L>(by[p] + c) * (load<L>(y[p] + c) - middle);
                                                   });
                store<L>(scale + c, load<L>(scale + c) + of_scale);
                store<L>(offset + c,
                         load<L>(offset + c) + sum_over<L>(pixels, [&](long p) { return load<L>(by[p] + c); }));
            }
        });
    }
};

// The gradient of what a norm takes, from that of what it gives: scale·by + slope·y + constant.
struct BackNorm {
    Vector scale, slope, constant;

    BackNorm(const Norm &norm, const Statistics &of, const Statistics &by, double count)
        : scale(norm.scale), slope(of.mean.size()), constant(of.mean.size()) {
        for (size_t c = 0; c < slope.size(); c++) {
            slope[c] = 2 * by.variance[c] / count;
            constant[c] = by.mean[c] / count - (double)slope[c] * of.mean[c];
        }
    }

    void apply(Pixels by, Pixels y, long pixels, Pixels to) const {
        by_lanes(slope.size(), [&](auto lanes) {
            constexpr int L = decltype(lanes)::value;
            for (long p = 0; p < pixels; p++)
                for (size_t c = 0; c < slope.size(); c += L)
                    store<L>(to[p] + c, load<L>(by[p] + c) * load<L>(&scale[c]) +
                                            load<L>(y[p] + c) * load<L>(&slope[c]) + load<L>(&constant[c]));
        });
    }

    void apply(const Layer &layer, Pixels by, Pixels y, const Padded &to) const {
        for (long first = 0, r = 0; r < layer.images.height; r++, first += layer.images.width)
            apply(by.from(first), y.from(first), layer.images.width, to.row(r));
    }
};

// by = 0 where the ReLU gave 0.
inline void bend_back(Pixels bent, long pixels, long channels, Pixels by) {
    for (long p = 0; p < pixels; p++)
        for (long c = 0; c < channels; c += 8)
            store<8>(by[p] + c, load<8>(bent[p] + c) > 0 ? load<8>(by[p] + c) : Vec<8>{});
}

// The gradients of the gates, (in,), and of x through one folding: for u1 with the weights, for u2 with them flipped.
template <bool ADDS>
void back_through_fold(const Layer &layer, Pixels x, const float *weights, Pixels by_u, long pixels, Pixels by_x,
                       float *by_weights) {
    by_lanes(layer.first(), [&](auto lanes) {
        constexpr int L = decltype(lanes)::value;
        for (long c = 0; c < layer.in; c += L) {
            Vec<L> weight = load<L>(weights + c), sum = load<L>(by_weights + c);
            for (long p = 0; p < pixels; p++) {
                Vec<L> by = load<L>(by_u[p] + c % layer.first());
                sum += by * load<L>(x[p] + c);
                store<L>(by_x[p] + c, ADDS ? load<L>(by_x[p] + c) + by * weight : by * weight);
            }
            store<L>(by_weights + c, sum);
        }
    });
}
