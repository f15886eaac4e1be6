// BSConv's passes over activations, row by row.
//
// What the depthwise convolution sees, z, never leaves the processor's cache. In training BSConv-S writes t, the few
// channels of its subspace, once for each direction: z = product·(t − mean) + shift is computed again on the way back.
#pragma once
#include "depthwise.h"
#include "ending.h"
#include "pooling.h"

struct Layer {
    Images images;  // of the input
    Stride stride;
    Kernel kernel;
    long in, mid, out;
    double epsilon1, epsilon2;
    long width() const { return (mid + 7) / 8 * 8; }  // of t, with zeros that fill a vector
    long rows() const { return (images.height + stride.rows - 1) / stride.rows; }
    long columns() const { return (images.width + stride.columns - 1) / stride.columns; }
    Pixels x(const float *x, long n, long r) const { return {x + (n * images.height + r) * images.width * in, in}; }
    Pixels t(const float *t, long n, long r) const {
        return {t + (n * images.height + r) * images.width * width(), width()};
    }
    Pixels y(const float *y, long n, long r) const {
        return {y + (n * rows() + r / stride.rows) * columns() * out, out};
    }
};

// The weights as the passes take them.
struct Weights {
    Vector mean, product, shift, depthwise;  // (width,), (width, out), (out,), (taps, out)
    Vector product_back, turned;             // (out, width), (taps, out): for the gradients
};

// Writes t = first·x, the mean of each image, (N, width), and for each chunk the upper products of differences from it.
inline void find_subspace(const Layer &layer, const Vector &first, const float *x, float *t, Vector &means,
                          Vector &products) {
    const Images &images = layer.images;
    long width = layer.width();
#pragma omp parallel num_threads(images.threads)
    {
        Vector differences(images.width * width);
#pragma omp for schedule(static)
        for (long chunk = 0; chunk < CHUNKS; chunk++)
            for_images_of(chunk, images, [&](long n) {
                Pixels to = layer.t(t, n, 0);
                multiply(layer.x(x, n, 0), images.pixels(), layer.in, first.data(), width, nullptr, to);
                by_lanes(width, [&](auto lanes) {
                    add_covariance<decltype(lanes)::value>(to, images, width, {differences.data(), width},
                                                           &means[n * width], &products[chunk * width * width]);
                });
            });
    }
}

// to = t − mean, of one row.
inline void centre(const Layer &layer, Pixels t, const Vector &mean, Pixels to) {
    centre<8>(t, layer.images.width, layer.width(), mean.data(), to);
}

// Writes a row of z, and of t − mean.
inline void expand(const Layer &layer, const Weights &weights, Pixels t, Pixels centred, Pixels z) {
    centre(layer, t, weights.mean, centred);
    multiply<Start::bias>(centred, layer.images.width, layer.width(), weights.product.data(), layer.out,
                          weights.shift.data(), z);
}

// Writes the output from rows of z, which expand(n, r, room, z) writes; finishes each row.
template <class Expand>
void convolve_images(const Layer &layer, Expand expand, const float *kernel, const float *bias, const Ending &ending,
                     float *y) {
    const Images &images = layer.images;
#pragma omp parallel num_threads(images.threads)
    {
        Padded z(images, layer.kernel, layer.out);
        Vector data(images.width * layer.width());
        Pixels room(data.data(), layer.width());
#pragma omp for schedule(static)
        for (long n = 0; n < images.number; n++) {
            auto convolve_row = [&](long r) {
                if (r % layer.stride.rows) return;
                Pixels to = layer.y(y, n, r);
                by_lanes(layer.out, [&](auto lanes) {
                    constexpr int L = decltype(lanes)::value;
                    depthwise<L>(
                        Sources(z, r, layer.stride.columns), layer.columns(), kernel,
                        [&](long, long c) { return load<L>(bias + c); },
                        [&](long p, long c, Vec<L> sum) { store<L>(to[p] + c, sum); });
                });
                ending.finish(to, layer.columns());
            };
            by_rows(images, layer.kernel, [&](long r) { expand(n, r, room, z.row(r)); }, convolve_row);
        }
    }
}

// The gradients of the weights, summed over the chunks.
struct ByWeights {
    Vector first, product, shift, depthwise, bias;  // (width, in), (width, out), (out,), (taps, out), (out,)

    explicit ByWeights(const Layer &layer)
        : first(CHUNKS * layer.width() * layer.in), product(CHUNKS * layer.width() * layer.out),
          shift(CHUNKS * layer.out), depthwise(CHUNKS * layer.kernel.taps() * layer.out), bias(CHUNKS * layer.out) {}
};

// What a thread needs for the gradients of one image. Where the layer strides, by_y has zeros between the outputs.
struct Room {
    Padded z, by_y;
    Vector data;
    Pixels centred, by_z;

    explicit Room(const Layer &layer)
        : z(layer.images, layer.kernel, layer.out), by_y(layer.images, layer.kernel, layer.out),
          data(layer.images.width * (layer.width() + layer.out)), centred(data.data(), layer.width()),
          by_z(centred[layer.images.width], layer.out) {}
};

// From a row of the gradient of y to those of the depthwise weights.
template <int L>
void back_to_depthwise(const Layer &layer, Pixels grad, long r, const Room &room, float *by_depthwise, float *by_bias) {
    add_depthwise_gradient<L>(Sources(room.z, r, layer.stride.columns), grad, layer.columns(), by_depthwise);
    add_sum<L>(grad, layer.columns(), layer.out, by_bias);
}

// Puts a row of the gradient of y where that of z reads it.
inline void spread_row(const Layer &layer, Pixels grad, Pixels to) {
    copy_pixels(grad, layer.columns(), layer.out, {to.data, to.stride * layer.stride.columns});
}

// From by_y to the gradients of a row of z, of the product and of the shift, and of t as far as z goes.
template <int L>
void back_to_subspace(const Layer &layer, const Weights &weights, Pixels t, long r, const Room &room, float *by_product,
                      float *by_shift, Pixels by_t) {
    long width = layer.images.width;
    depthwise<L>(
        Sources(room.by_y, r), width, weights.turned.data(), [](long, long) { return Vec<L>{}; },
        [&](long p, long c, Vec<L> sum) { store<L>(room.by_z[p] + c, sum); });
    add_sum<L>(room.by_z, width, layer.out, by_shift);
    centre(layer, t, weights.mean, room.centred);
    add_products(room.centred, layer.width(), room.by_z, layer.out, width, by_product);
    multiply(room.by_z, width, layer.out, weights.product_back.data(), layer.width(), nullptr, by_t);
}

inline void back_images(const Layer &layer, const Weights &weights, const float *t, const float *grad, float *by_t,
                        ByWeights &by) {
    long width = layer.width(), taps = layer.kernel.taps();
#pragma omp parallel num_threads(layer.images.threads)
    {
        Room room(layer);
#pragma omp for schedule(static)
        for (long chunk = 0; chunk < CHUNKS; chunk++)
            for_images_of(chunk, layer.images, [&](long n) {
                auto prepare = [&](long r) {
                    expand(layer, weights, layer.t(t, n, r), room.centred, room.z.row(r));
                    if (r % layer.stride.rows == 0) spread_row(layer, layer.y(grad, n, r), room.by_y.row(r));
                };
                auto use = [&](long r) {
                    by_lanes(layer.out, [&](auto lanes) {
                        constexpr int L = decltype(lanes)::value;
                        if (r % layer.stride.rows == 0)
                            back_to_depthwise<L>(layer, layer.y(grad, n, r), r, room,
                                                 &by.depthwise[chunk * taps * layer.out], &by.bias[chunk * layer.out]);
                        back_to_subspace<L>(layer, weights, layer.t(t, n, r), r, room,
                                            &by.product[chunk * width * layer.out], &by.shift[chunk * layer.out],
                                            layer.t(by_t, n, r));
                    });
                };
                by_rows(layer.images, layer.kernel, prepare, use);
            });
    }
}

// by_t += slopes·(t − mean) + constant: what the statistics add; then from it to the gradients of x and of `first`,
// (width, in).
inline void back_to_x(const Layer &layer, const Weights &weights, const Vector &slopes, const Vector &constant,
                      const Vector &first, const float *t, const float *x, float *by_t, float *by_x, ByWeights &by) {
    long width = layer.width(), pixels = layer.images.width;
#pragma omp parallel num_threads(layer.images.threads)
    {
        Vector room(2 * pixels * width);
        Pixels centred(room.data(), width), added(centred[pixels], width);
#pragma omp for schedule(static)
        for (long chunk = 0; chunk < CHUNKS; chunk++)
            for_images_of(chunk, layer.images, [&](long n) {
                for (long r = 0; r < layer.images.height; r++) {
                    Pixels to = layer.t(by_t, n, r);
                    centre(layer, layer.t(t, n, r), weights.mean, centred);
                    multiply<Start::bias>(centred, pixels, width, slopes.data(), width, constant.data(), added);
                    for (long at = 0; at < pixels * width; at += 8)
                        store<8>(to.data + at, load<8>(to.data + at) + load<8>(added.data + at));
                    add_products(to, width, layer.x(x, n, r), layer.in, pixels, &by.first[chunk * width * layer.in]);
                    multiply(to, pixels, width, first.data(), layer.in, nullptr, layer.x(by_x, n, r));
                }
            });
    }
}
