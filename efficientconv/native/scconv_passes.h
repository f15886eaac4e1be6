// SCConv's passes over one image: nothing has to be known of the others.
//
// The fusion's weights follow from the means of both paths, and these, since the paths are linear, from sums over the
// pixels that each tap reads. So the weights go into the kernels, image by image, and the output is written once:
// convolutions in groups of up, and one product of all that is squeezed, up and low.
#pragma once
#include "ending.h"
#include "norm.h"
#include "sigmoid.h"

struct Layer {
    Images images;
    Kernel kernel;
    long in, upper, up, low, out;   // widths; up and low: squeezed, multiples of 4, and of 8 together
    long norm_groups, conv_groups;  // of the norm and of the k×k convolution
    long groups;                    // as which that is computed: as many, or 1
    double epsilon, threshold;
    long squeezed() const { return up + low; }
    long depth() const { return up / groups; }
    long width() const { return out / groups; }
    long rows() const { return kernel.taps() * depth(); }
    long of_norm_group() const { return in / norm_groups; }
};

// A part of the squeezing: so many channels from here on to so many from there on.
struct Block {
    long from, depth, to, width;
};

// The two paths, or, where one of them is narrower than a vector, both as one with zeros in between.
inline std::vector<Block> blocks(const Layer &layer) {
    if (layer.up % 8) return {{0, layer.in, 0, layer.squeezed()}};
    return {{0, layer.upper, 0, layer.up}, {layer.upper, layer.in - layer.upper, layer.up, layer.low}};
}

// The weights as the passes take them.
struct Weights {
    const float *norm_weight, *norm_bias;    // γ/Σγ is in them, (in,)
    const float *squeeze;                    // (in, squeezed); zeros from one path to the other
    const float *kernel, *pointwise;         // (taps, depth, out), (squeezed, out): rows of up are y₁'s, of low y₂'s
    const float *bias1, *bias2, *steepness;  // (out,); sigmoid(±steepness·(mean y₁ − mean y₂)) fuse
};

// Pixels of its own.
struct Rows : private Vector, Pixels {
    Rows(long pixels, long channels) : Vector(pixels * channels), Pixels(Vector::data(), channels) {}
    Rows(const Rows &) = delete;
    using Pixels::operator[];
};

// What a thread needs for one image.
struct Room {
    std::vector<Padded> up;   // for each group of the convolution
    Rows squeezed, z, given;  // given: the weight with which a channel goes to the other half; 0 if it is informative
    Vector mean, scale, shift, tap_sums, sums, beta1, beta2, kernel, pointwise, bias;

    explicit Room(const Layer &layer)
        : squeezed(layer.images.pixels(), layer.squeezed()), z(layer.images.pixels(), layer.in),
          given(layer.images.pixels(), layer.in), mean(layer.in), scale(layer.in), shift(layer.in),
          tap_sums(layer.groups * layer.rows()), sums(layer.squeezed()), beta1(layer.out), beta2(layer.out),
          kernel(layer.rows() * layer.out), pointwise(layer.squeezed() * layer.out), bias(layer.out) {
        for (long g = 0; g < layer.groups; g++) up.emplace_back(layer.images, layer.kernel, layer.depth());
    }
};

// The mean of each group of channels, and one over the standard deviation, (groups,).
inline void measure_groups(const Layer &layer, Pixels x, float *mean, float *reciprocal) {
    Vector mean_of(layer.in), squares(layer.in);
    moments<WIDEST>(x, layer.images.pixels(), layer.in, mean_of.data(), squares.data());
    long channels = layer.of_norm_group();
    for (long g = 0; g < layer.norm_groups; g++) {
        double sum = 0, variance = 0;
        for (long c = g * channels; c < (g + 1) * channels; c++) sum += mean_of[c];
        mean[g] = sum / channels;
        for (long c = g * channels; c < (g + 1) * channels; c++) {
            double difference = mean_of[c] - sum / channels;
            variance += squares[c] / layer.images.pixels() + difference * difference;
        }
        reciprocal[g] = 1 / std::sqrt(variance / channels + layer.epsilon);
    }
}

// scale·x + shift are the scores.
inline void find_scores(const Layer &layer, const Weights &weights, const float *mean, const float *reciprocal,
                        Room &room) {
    for (long c = 0; c < layer.in; c++) {
        long g = c / layer.of_norm_group();
        room.mean[c] = mean[g];
        room.scale[c] = weights.norm_weight[c] * reciprocal[g];
        room.shift[c] = weights.norm_bias[c] - mean[g] * room.scale[c];
    }
}

// What a channel keeps of itself.
template <int L>
inline Vec<L> kept(Vec<L> given) {
    return given == 0 ? Vec<L>{} + 1 : given;
}

// Fills a row of an image whose width is a multiple of 4.
inline void copy_row(Pixels from, long width, Pixels to) {
    for (long p = 0; p < width; p++)
        for (long c = 0; c < to.stride; c += 4) store<4>(to[p] + c, load<4>(from[p] + c));
}

// z = kept·x + the other half's given·x, of one row. One function for both directions, so that they agree on what is
// informative.
template <int L>
__attribute__((noinline)) void reconstruct(const Layer &layer, Pixels x, const Room &room, Pixels given, Pixels z) {
    const float *scale = room.scale.data(), *shift = room.shift.data();
    long half = layer.in / 2;
    const Vec<WIDEST> threshold = Vec<WIDEST>{} + (float)layer.threshold;
    for (long p = 0; p < layer.images.width; p++) {
        for (long c = 0; c < layer.in; c += WIDEST) {
            Vec<WIDEST> score = load<WIDEST>(x[p] + c) * load<WIDEST>(scale + c) + load<WIDEST>(shift + c);
            store<WIDEST>(given[p] + c, score > threshold ? Vec<WIDEST>{} : sigmoid<WIDEST>(score));
        }
        for (long c = 0; c < half; c += L) {
            Vec<L> x1 = load<L>(x[p] + c), x2 = load<L>(x[p] + half + c);
            Vec<L> given1 = load<L>(given[p] + c), given2 = load<L>(given[p] + half + c);
            store<L>(z[p] + c, kept<L>(given1) * x1 + given2 * x2);
            store<L>(z[p] + half + c, kept<L>(given2) * x2 + given1 * x1);
        }
    }
}

// From x to what the two paths convolve, of one image; `next` will be read or written after that.
template <For PURPOSE>
void squeeze_image(const Layer &layer, const Weights &weights, Pixels x, Pixels next, bool keeps_rows,
                   const Room &room) {
    long width = layer.images.width;
    for (long r = 0; r < layer.images.height; r++) {
        fetch<PURPOSE>(next.from(r * width), width);
        Pixels z = room.z.from(keeps_rows ? r * width : 0), given = room.given.from(keeps_rows ? r * width : 0);
        by_lanes(layer.in / 2,
                 [&](auto lanes) { reconstruct<decltype(lanes)::value>(layer, x.from(r * width), room, given, z); });
        Pixels row = room.squeezed.from(r * width);
        for (const Block &block : blocks(layer)) {
            Pixels matrix(weights.squeeze + block.from * layer.squeezed() + block.to, layer.squeezed());
            multiply(z.from(0, block.from), width, block.depth, matrix, block.width, row.from(0, block.to));
        }
        for (long g = 0; g < layer.groups; g++) copy_row(row.from(0, g * layer.depth()), width, room.up[g].row(r));
    }
}

// Adds to the sums of each tap, (rows, columns, 4), what the taps of one column read of four channels in row r.
inline void sum_tap_column(const Padded &x, long r, long column, long channel, float *sums) {
    const Kernel &kernel = x.kernel;
    Pixels from = x.row(r).from(column * kernel.column_dilation - kernel.left(), channel);
    Vec<4> sum = sum_over<4>(x.images.width, [&](long p) { return load<4>(from[p]); });
    for (long row = 0; row < kernel.rows; row++) {
        long y = r + kernel.above() - row * kernel.row_dilation;
        if (y < 0 || y >= x.images.height) continue;
        float *at = sums + (row * kernel.columns + column) * x.depth + channel;
        store<4>(at, load<4>(at) + sum);
    }
}

// The sums over the pixels of an image of what the taps read, (groups, taps, depth), and of what is squeezed.
inline void sum_paths(const Layer &layer, Room &room) {
    std::fill(room.tap_sums.begin(), room.tap_sums.end(), 0.f);
    for (long g = 0; g < layer.groups; g++)
        for (long r = 0; r < layer.images.height; r++)
            for (long column = 0; column < layer.kernel.columns; column++)
                for (long k = 0; k < layer.depth(); k += 4)
                    sum_tap_column(room.up[g], r, column, k, &room.tap_sums[g * layer.rows()]);
    for (long k = 0; k < layer.squeezed(); k += 8)
        store<8>(&room.sums[k],
                 sum_over<8>(layer.images.pixels(), [&](long p) { return load<8>(room.squeezed[p] + k); }));
}

inline void find_difference(const Layer &layer, const Weights &weights, const Room &room, float *difference) {
    Vector sums1(layer.out), sums2(layer.out);
    multiply({room.sums.data(), 0}, 1, layer.up, weights.pointwise, layer.out, nullptr, {sums1.data(), 0});
    multiply({&room.sums[layer.up], 0}, 1, layer.low, weights.pointwise + layer.up * layer.out, layer.out, nullptr,
             {sums2.data(), 0});
    for (long first = 0; first < layer.out; first += layer.width()) {
        Pixels sums(&room.tap_sums[first / layer.width() * layer.rows()], 0);
        Pixels kernel(weights.kernel + first, layer.out);
        multiply<Start::y>(sums, 1, layer.rows(), kernel, layer.width(), {&sums1[first], 0});
    }
    for (long c = 0; c < layer.out; c++)
        difference[c] = ((sums1[c] - sums2[c]) / layer.images.pixels() + weights.bias1[c] - weights.bias2[c]) *
                        weights.steepness[c];
}

inline void find_betas(const Layer &layer, const float *difference, Room &room) {
    for (long c = 0; c < layer.out; c++) {
        room.beta1[c] = sigmoid(difference[c]);
        room.beta2[c] = sigmoid(-difference[c]);
    }
}

inline void scale_rows(const float *matrix, long rows, const Vector &factor, float *result) {
    long width = factor.size();
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < width; c++) result[r * width + c] = matrix[r * width + c] * factor[c];
}

// β₁·y₁ + β₂·y₂, as one sum; `next` will be read after that.
inline void fuse_image(const Layer &layer, const Weights &weights, Pixels next, const Ending &ending, Room &room,
                       Pixels y) {
    long width = layer.images.width, lower = layer.up * layer.out;
    scale_rows(weights.kernel, layer.rows(), room.beta1, room.kernel.data());
    scale_rows(weights.pointwise, layer.up, room.beta1, room.pointwise.data());
    scale_rows(weights.pointwise + lower, layer.low, room.beta2, &room.pointwise[lower]);
    for (long c = 0; c < layer.out; c++)
        room.bias[c] = room.beta1[c] * weights.bias1[c] + room.beta2[c] * weights.bias2[c];
    const long here = 0;
    for (long r = 0; r < layer.images.height; r++) {
        fetch<For::reading>(next.from(r * width), width);
        for (long g = 0; g < layer.groups; g++) {
            long first = g * layer.width();
            const Padded &up = room.up[g];
            Pixels pointwise(&room.pointwise[first], layer.out), kernel(&room.kernel[first], layer.out);
            Product of_squeezed{room.squeezed.from(r * width), {1, &here}, layer.squeezed(), pointwise};
            Product of_up{up.tap(r, 0), up.runs(), up.joined * up.depth, kernel};
            Pixels to = y.from(r * width, first);
            add_up<Start::bias>({of_squeezed, of_up}, width, layer.width(), &room.bias[first], to);
        }
        ending.finish(y.from(r * width), width);
    }
}

// What the backward pass needs of the forward pass besides x.
struct Saved {
    float *mean, *reciprocal;  // of the norm's groups, (N, groups)
    float *difference;         // of the paths' means, (N, out)

    Saved(const Layer &layer, float *room)
        : mean(room), reciprocal(room + layer.images.number * layer.norm_groups),
          difference(reciprocal + layer.images.number * layer.norm_groups) {}
};

inline void forward_images(const Layer &layer, const Weights &weights, const float *x, const Saved &saved,
                           const Ending &ending, float *y) {
    const Images &images = layer.images;
#pragma omp parallel num_threads(images.threads)
    {
        Room room(layer);
#pragma omp for schedule(static)
        for (long n = 0; n < images.number; n++) {
            Pixels image(x + n * images.pixels() * layer.in, layer.in);
            float *mean = saved.mean + n * layer.norm_groups, *reciprocal = saved.reciprocal + n * layer.norm_groups;
            float *difference = saved.difference + n * layer.out;
            Pixels to(y + n * images.pixels() * layer.out, layer.out);
            Pixels next = image.from(n + 1 < images.number ? images.pixels() : 0);
            measure_groups(layer, image, mean, reciprocal);
            find_scores(layer, weights, mean, reciprocal, room);
            squeeze_image<For::writing>(layer, weights, image, to, false, room);
            sum_paths(layer, room);
            find_difference(layer, weights, room, difference);
            find_betas(layer, difference, room);
            fuse_image(layer, weights, next, ending, room, to);
        }
    }
}
