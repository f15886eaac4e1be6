// OctConv's passes over one image: nothing has to be known of the others.
//
// Three convolutions, from the high-frequency channels to themselves at full resolution, and at half of it from the low
// to the high and from all to the low. What lives at half the resolution is repeated when the output is written.
#pragma once
#include <array>

#include "ending.h"
#include "winograd.h"

struct Layer {
    Images images;
    Kernel kernel;
    long high_in, low_in, high_out, low_out;  // multiples of 8; low: or 0
    long in() const { return high_in + low_in; }
    long out() const { return high_out + low_out; }
    Images half() const { return {images.threads, images.number, images.height / 2, images.width / 2}; }
};

// A convolution of some channels of x to some of y.
struct Path {
    Winograd ahead, back;
    long from, to, in;  // their first channels; in: all of x

    Path(const Images &images, const Layer &layer, long from, long depth, long to, long width)
        : ahead{images, layer.kernel, depth, width}, back{images, layer.kernel, width, depth}, from(from), to(to),
          in(layer.in()) {}

    bool empty() const { return !ahead.depth || !ahead.width; }

    // Where a weight lies in a module's kernel, (out, in, rows, columns).
    long at(long row, long column, long k, long o) const {
        const Kernel &kernel = ahead.kernel;
        return (((to + o) * in + from + k) * kernel.rows + row) * kernel.columns + column;
    }
};

using Paths = std::array<Path, 3>;
enum { HIGH, LOW_TO_HIGH, TO_LOW };

inline Paths paths(const Layer &layer) {
    return {Path(layer.images, layer, 0, layer.high_in, 0, layer.high_out),
            Path(layer.half(), layer, layer.high_in, layer.low_in, 0, layer.high_out),
            Path(layer.half(), layer, 0, layer.in(), layer.high_out, layer.low_out)};
}

// The weights of each path, in the order of the products.
using Kernels = std::array<Vector, 3>;

inline Kernels kernels(const Paths &paths, const float *weight) {
    auto of = [&](const Path &path) {
        return transformed_kernel(
            path.ahead, [&](long row, long column, long k, long o) { return weight[path.at(row, column, k, o)]; });
    };
    return {of(paths[HIGH]), of(paths[LOW_TO_HIGH]), of(paths[TO_LOW])};
}

// Turned by half a circle, from y to x.
inline Kernels turned_kernels(const Paths &paths, const float *weight) {
    auto of = [&](const Path &path) {
        return transformed_kernel(path.back, [&](long row, long column, long o, long k) {
            return weight[path.at(path.ahead.kernel.rows - 1 - row, 2 - column, k, o)];
        });
    };
    return {of(paths[HIGH]), of(paths[LOW_TO_HIGH]), of(paths[TO_LOW])};
}

// What a thread needs for one direction of a path.
struct PathRoom {
    Transformed image;
    Vector products;
    explicit PathRoom(const Winograd &of) : image(of), products(of.band_floats()) {}
};

// to = the convolution of x.
inline void convolve_path(const Winograd &of, Pixels x, const Vector &u, const float *bias, PathRoom &room, Pixels to) {
    room.image.fill([&](long r) { return x.from(r * of.images.width); });
    convolve(of, room.image, u.data(), bias, room.products, [&](long r) { return to.from(r * of.images.width); });
}

// Calls with the pixels of an image that are one at half the resolution, and the channels of a vector.
template <class Function>
inline void for_windows(const Images &half, long channels, Function function) {
    by_lanes(channels, [&](auto lanes) {
        for (long r = 0; r < half.height; r++)
            for (long p = 0; p < half.width; p++)
                for (long c = 0; c < channels; c += decltype(lanes)::value)
                    function(lanes, r * half.width + p, r * 4 * half.width + 2 * p, c);
    });
}

// to = factor·the sum over each 2×2 window.
inline void sum_windows(const Images &half, Pixels x, long channels, float factor, Pixels to) {
    for_windows(half, channels, [&](auto lanes, long p, long first, long c) {
        constexpr int L = decltype(lanes)::value;
        const float *above = x[first] + c, *below = x[first + 2 * half.width] + c;
        Vec<L> sum = (load<L>(above) + load<L>(above + x.stride)) + (load<L>(below) + load<L>(below + x.stride));
        store<L>(to[p] + c, sum * factor);
    });
}

// to = factor·x, or to += factor·x, for each pixel of a window.
template <bool ADDS>
inline void repeat(const Images &half, Pixels x, long channels, float factor, Pixels to) {
    for_windows(half, channels, [&](auto lanes, long p, long first, long c) {
        constexpr int L = decltype(lanes)::value;
        Vec<L> value = load<L>(x[p] + c) * factor;
        for (long pixel : {first, first + 1, first + 2 * half.width, first + 2 * half.width + 1})
            store<L>(to[pixel] + c, ADDS ? load<L>(to[pixel] + c) + value : value);
    });
}

// Of a layer: its paths, and what they are convolved with.
struct Weights {
    Paths paths;
    Kernels ahead;
    const float *bias;
    Weights(const Layer &layer, const float *weight, const float *bias)
        : paths(::paths(layer)), ahead(kernels(paths, weight)), bias(bias) {}
};

// What a thread needs for one image; halved: x at half the resolution.
struct Room {
    std::array<PathRoom, 3> ahead;
    Vector halved_data, y_data;
    Pixels halved, y;

    Room(const Layer &layer, const Paths &paths)
        : ahead{PathRoom(paths[HIGH].ahead), PathRoom(paths[LOW_TO_HIGH].ahead), PathRoom(paths[TO_LOW].ahead)},
          halved_data(layer.half().pixels() * layer.in()), y_data(layer.half().pixels() * layer.out()),
          halved(halved_data.data(), layer.in()), y(y_data.data(), layer.out()) {}
    Room(const Room &) = delete;
};

inline void forward_image(const Layer &layer, const Weights &weights, Pixels x, Pixels y, Room &room) {
    const Images half = layer.half();
    sum_windows(half, x, layer.in(), 0.25f, room.halved);
    convolve_path(weights.paths[HIGH].ahead, x, weights.ahead[HIGH], weights.bias, room.ahead[HIGH], y);
    for (int i : {LOW_TO_HIGH, TO_LOW}) {
        const Path &path = weights.paths[i];
        if (path.empty()) continue;
        convolve_path(path.ahead, room.halved.from(0, path.from), weights.ahead[i],
                      i == TO_LOW ? weights.bias + path.to : nullptr, room.ahead[i], room.y.from(0, path.to));
    }
    if (layer.low_in) repeat<true>(half, room.y, layer.high_out, 1, y);
    repeat<false>(half, room.y.from(0, layer.high_out), layer.low_out, 1, y.from(0, layer.high_out));
}
