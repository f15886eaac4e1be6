// SPConv's passes over activations, image by image.
//
// y1 is what the representative channels give, a convolution in groups and a 1×1; y2 = second·rest + bias is never
// written: its statistics, its means, its gradients follow from the means, the covariance and the products of what is
// linear around it. The output is scale1·y1 + scale2·y2 + shift, all three different for each image.
#pragma once
#include "ending.h"
#include "groups.h"

struct Layer {
    Images images;
    Kernel kernel;
    long in, representative, out, groups;
    double epsilon1, epsilon2;
    long rest() const { return in - representative; }
    long image() const { return images.pixels() * out; }
    Groups grouped() const { return {kernel, groups, representative / groups, out / groups}; }
    Pixels x(const float *x, long n) const { return {x + n * images.pixels() * in, in}; }
    Pixels y(const float *y, long n) const { return {y + n * image(), out}; }
};

// The weights as the passes take them, with transposed ones for the gradients.
struct Weights {
    Vector grouped, turned;            // as `Groups` has them
    Vector pointwise, pointwise_back;  // (representative, out), (out, representative); empty for none
    Vector second, second_back, bias;  // (rest, out), (out, rest), (out,)
};

// What there is to know of all images before the norms are known.
struct Measured {
    float *y1, *means1, *squares1, *rest_means, *products;  // (N, H, W, out), (N, out) twice, (N, rest), by chunk
};

// Writes y1 of one image.
inline void convolve_image(const Layer &layer, const Weights &weights, Pixels x, GroupedConvolution &grouped,
                           Pixels y1) {
    long width = layer.images.width;
    by_rows(
        layer.images, layer.kernel, [&](long r) { grouped.take(r, x.from(r * width)); },
        [&](long r) {
            Pixels row = y1.from(r * width);
            grouped.give(r, row);
            if (weights.pointwise.empty()) return;
            multiply<Start::y>(x.from(r * width), width, layer.representative, weights.pointwise.data(), layer.out,
                               nullptr, row);
        });
}

inline void measure_images(const Layer &layer, const Weights &weights, const float *x, const Measured &to) {
    const Images &images = layer.images;
    long rest = layer.rest();
#pragma omp parallel num_threads(images.threads)
    {
        GroupedConvolution grouped(images, layer.grouped(), weights.grouped);
        Vector row(images.width * rest);
#pragma omp for schedule(static)
        for (long chunk = 0; chunk < CHUNKS; chunk++)
            for_images_of(chunk, images, [&](long n) {
                Pixels y1 = layer.y(to.y1, n);
                convolve_image(layer, weights, layer.x(x, n), grouped, y1);
                by_lanes(layer.out, [&](auto lanes) {
                    moments<decltype(lanes)::value>(y1, images.pixels(), layer.out, to.means1 + n * layer.out,
                                                    to.squares1 + n * layer.out);
                });
                by_lanes(rest, [&](auto lanes) {
                    add_covariance<decltype(lanes)::value>(layer.x(x, n).from(0, layer.representative), images, rest,
                                                           {row.data(), rest}, to.rest_means + n * rest,
                                                           to.products + chunk * rest * rest);
                });
            });
    }
}

// What makes the output of one image, (out,) each; the bias of y2 is in the shift.
struct Gate {
    const float *scale1, *scale2, *shift;
};

// Writes second·scale2, (rest, out).
inline void scale_second(const Layer &layer, const Weights &weights, const float *scale2, Vector &scaled) {
    for (long k = 0; k < layer.rest(); k++)
        for (long c = 0; c < layer.out; c++) scaled[k * layer.out + c] = weights.second[k * layer.out + c] * scale2[c];
}

// Writes the output of one image; finishes each row.
template <int L>
void fuse_image(const Layer &layer, const Weights &weights, Pixels x, Pixels y1, const Gate &gate, Vector &scaled,
                const Ending &ending, Pixels out) {
    long width = layer.images.width;
    scale_second(layer, weights, gate.scale2, scaled);
    for (long first = 0; first < layer.images.pixels(); first += width) {
        for (long p = first; p < first + width; p++)
            for (long c = 0; c < layer.out; c += L)
                store<L>(out[p] + c, load<L>(y1[p] + c) * load<L>(gate.scale1 + c) + load<L>(gate.shift + c));
        multiply<Start::y>(x.from(first, layer.representative), width, layer.rest(), scaled.data(), layer.out, nullptr,
                           out.from(first));
        ending.finish(out.from(first), width);
    }
}

// For gate(n), what makes the output of image n.
template <class Find>
void fuse_images(const Layer &layer, const Weights &weights, const float *x, const float *y1, Find gate, float *out) {
#pragma omp parallel num_threads(layer.images.threads)
    {
        Vector scaled(layer.rest() * layer.out);
#pragma omp for schedule(static)
        for (long before = 0; before < layer.images.number; before++) {
            long n = layer.images.number - 1 - before;  // the last images measured are still in the cache
            by_lanes(layer.out, [&](auto lanes) {
                fuse_image<decltype(lanes)::value>(layer, weights, layer.x(x, n), layer.y(y1, n), gate(n), scaled, {},
                                                   layer.y(out, n));
            });
        }
    }
}

// From x to the output where all statistics are known; gate(means of y1, means of the rest, scale1, scale2, shift)
// finds the last three of an image.
template <class Find>
void infer_images(const Layer &layer, const Weights &weights, const float *x, Find gate, const Ending &ending,
                  float *out) {
    const Images &images = layer.images;
    long rest = layer.rest();
#pragma omp parallel num_threads(images.threads)
    {
        GroupedConvolution grouped(images, layer.grouped(), weights.grouped);
        Vector image(layer.image()), mean1(layer.out), rest_mean(rest), scaled(rest * layer.out);
        Vector scale1(layer.out), scale2(layer.out), shift(layer.out);
        Pixels y1(image.data(), layer.out);
#pragma omp for schedule(static)
        for (long n = 0; n < images.number; n++) {
            Pixels from = layer.x(x, n);
            convolve_image(layer, weights, from, grouped, y1);
            by_lanes(rest, [&](auto lanes) {
                means<decltype(lanes)::value>(from.from(0, layer.representative), images.pixels(), rest,
                                              rest_mean.data());
            });
            by_lanes(layer.out, [&](auto lanes) {
                constexpr int L = decltype(lanes)::value;
                means<L>(y1, images.pixels(), layer.out, mean1.data());
                gate(mean1, rest_mean, scale1, scale2, shift);
                fuse_image<L>(layer, weights, from, y1, {scale1.data(), scale2.data(), shift.data()}, scaled, ending,
                              layer.y(out, n));
            });
        }
    }
}

// The sums over each image's pixels of grad·(y1 − mean1) and of grad, (N, out), and of (rest − rest_mean)·grad,
// (N, rest, out).
struct Sums {
    Vector of_y1, of_grad, of_rest;

    Sums(const Layer &layer, const float *x, const float *rest_mean, const float *y1, const float *mean1,
         const float *grad)
        : of_y1(layer.images.number * layer.out), of_grad(of_y1.size()), of_rest(of_y1.size() * layer.rest()) {
#pragma omp parallel num_threads(layer.images.threads)
        {
            Vector row(layer.images.width * layer.rest());
#pragma omp for schedule(static)
            for (long n = 0; n < layer.images.number; n++) {
                Pixels by = layer.y(grad, n), y = layer.y(y1, n);
                add_rest(layer, layer.x(x, n), rest_mean, by, {row.data(), layer.rest()},
                         &of_rest[n * layer.rest() * layer.out]);
                by_lanes(layer.out, [&](auto lanes) {
                    add_y1<decltype(lanes)::value>(layer, y, mean1, by, &of_y1[n * layer.out], &of_grad[n * layer.out]);
                });
            }
        }
    }

    static void add_rest(const Layer &layer, Pixels x, const float *mean, Pixels grad, Pixels row, float *products) {
        long width = layer.images.width;
        for (long first = 0; first < layer.images.pixels(); first += width) {
            centre<8>(x.from(first, layer.representative), width, layer.rest(), mean, row);
            add_products(row, layer.rest(), grad.from(first), layer.out, width, products);
        }
    }

    template <int L>
    static void add_y1(const Layer &layer, Pixels y1, const float *mean, Pixels grad, float *of_y1, float *of_grad) {
        long pixels = layer.images.pixels();
        for (long c = 0; c < layer.out; c += L) {
            auto product = [&](long p) { return load<L>(grad[p] + c) * (load<L>(y1[p] + c) - load<L>(mean + c)); };
            store<L>(of_y1 + c, sum_over<L>(pixels, product));
            store<L>(of_grad + c, sum_over<L>(pixels, [&](long p) { return load<L>(grad[p] + c); }));
        }
    }
};

// The gradient of y1 is scales1·grad + slope1·y1 + constants1, that of the rest
// (scales2·second)ᵀ·grad + rest·slopes + constants.
struct Gradients {
    Vector scales1, scales2, slope1, constants1;  // (N, out) twice, (out,), (N, out)
    Vector slopes, constants;                     // (rest, rest), (N, rest)
};

// What a chunk adds up.
struct Found {
    float *grouped, *pointwise;  // as `Groups` has it, (representative, out)
};

// What a thread needs for one image.
struct Room {
    Padded by_y1;
    GroupedConvolution to_x;
    GroupedGradient to_weights;
    Vector scaled;  // (out, rest)

    Room(const Layer &layer, const Weights &weights)
        : by_y1(layer.images, layer.kernel, layer.out), to_x(layer.images, layer.grouped().turned(), weights.turned),
          to_weights(layer.images, layer.grouped()), scaled(layer.out * layer.rest()) {}
};

template <int L>
void back_to_y1(const Layer &layer, const Gradients &by, Pixels y1, Pixels grad, long n, Pixels to) {
    const float *scale = &by.scales1[n * layer.out], *constant = &by.constants1[n * layer.out];
    for (long p = 0; p < layer.images.width; p++)
        for (long c = 0; c < layer.out; c += L)
            store<L>(to[p] + c, load<L>(grad[p] + c) * load<L>(scale + c) +
                                    load<L>(y1[p] + c) * load<L>(&by.slope1[c]) + load<L>(constant + c));
}

inline void back_row(const Layer &layer, const Weights &weights, const Gradients &by, Pixels x, Pixels grad, long n,
                     long r, Room &room, Pixels by_x, const Found &found) {
    long width = layer.images.width, representative = layer.representative, rest = layer.rest();
    Pixels by_y1 = room.by_y1.row(r), by_rest = by_x.from(0, representative);
    room.to_weights.add(r, x, room.by_y1, found.grouped);
    add_products(x, representative, by_y1, layer.out, width, found.pointwise);
    room.to_x.give(r, by_x);
    multiply<Start::y>(by_y1, width, layer.out, weights.pointwise_back.data(), representative, nullptr, by_x);
    multiply<Start::bias>(x.from(0, representative), width, rest, by.slopes.data(), rest, &by.constants[n * rest],
                          by_rest);
    multiply<Start::y>(grad, width, layer.out, room.scaled.data(), rest, nullptr, by_rest);
}

inline void back_images(const Layer &layer, const Weights &weights, const Gradients &by, const float *x,
                        const float *y1, const float *grad, float *by_x, const Found &found) {
    const Images &images = layer.images;
    long rest = layer.rest(), width = images.width;
#pragma omp parallel num_threads(images.threads)
    {
        Room room(layer, weights);
#pragma omp for schedule(static)
        for (long before = 0; before < CHUNKS; before++) {
            long chunk = CHUNKS - 1 - before;  // the last images summed are still in the cache
            Found to{found.grouped + chunk * layer.grouped().size(),
                     found.pointwise + chunk * layer.representative * layer.out};
            for_images_of(chunk, images, [&](long n) {
                for (long at = 0; at < layer.out * rest; at++)
                    room.scaled[at] = weights.second_back[at] * by.scales2[n * layer.out + at / rest];
                auto take = [&](long r) {
                    by_lanes(layer.out, [&](auto lanes) {
                        back_to_y1<decltype(lanes)::value>(layer, by, layer.y(y1, n).from(r * width),
                                                           layer.y(grad, n).from(r * width), n, room.by_y1.row(r));
                    });
                    room.to_x.take(r, room.by_y1.row(r));
                };
                by_rows(images, layer.kernel, take, [&](long r) {
                    back_row(layer, weights, by, layer.x(x, n).from(r * width), layer.y(grad, n).from(r * width), n, r,
                             room, layer.x(by_x, n).from(r * width), to);
                });
            });
        }
    }
}
