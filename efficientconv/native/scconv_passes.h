// SCConv's passes over one image: nothing has to be known of the others.
//
// The fusion's weights follow from the means of both paths, and these, since the paths are linear, from sums over the
// pixels that each tap reads. So the weights go into the kernels, image by image, and the output is written once.
#pragma once
#include "norm.h"
#include "sigmoid.h"

struct Layer {
    Images images;
    Kernel kernel;
    long in, upper, up, low, out;  // widths; up and low: squeezed, 4 or multiples of 8
    long norm_groups, conv_groups;
    double epsilon, threshold;
    long lower() const { return in - upper; }
    long taps() const { return kernel.taps() * up; }
    long of_group() const { return in / norm_groups; }
};

// The next multiple of 8. Channels of zeros may spill into the next pixel: it is written afterwards, or is the border.
inline long whole(long width) { return (width + 7) / 8 * 8; }

// The weights as the passes take them.
struct Weights {
    const float *norm_weight, *norm_bias;     // γ/Σγ is in them, (in,)
    const float *squeeze1, *squeeze2;         // (upper, whole(up)), (lower, whole(low)); null where nothing is squeezed
    const float *kernel, *second;             // (taps, up, out), (low, out)
    const float *bias1, *bias2, *steepness;   // (out,); sigmoid(±steepness·(mean y1 − mean y2)) fuse
};

// Pixels of its own.
struct Rows : private Vector, Pixels {
    Rows(long pixels, long channels) : Vector(pixels * channels), Pixels(Vector::data(), channels) {}
    Rows(const Rows &) = delete;
    using Pixels::operator[];
};

// What a thread needs for one image.
struct Room {
    Padded up;
    Rows low, z, given;  // given: the weight with which a channel goes to the other half; 0 where it is informative
    Vector scale, shift, sums1, sums2, beta1, beta2, kernel, second, bias;

    explicit Room(const Layer &layer)
        : up(layer.images, layer.kernel, layer.up), low(layer.images.pixels(), whole(layer.low)),
          z(layer.images.pixels(), layer.in), given(layer.images.pixels(), layer.in), scale(layer.in), shift(layer.in),
          sums1(layer.taps()), sums2(layer.low), beta1(layer.out), beta2(layer.out), kernel(layer.taps() * layer.out),
          second(layer.low * layer.out), bias(layer.out) {}
};

// The mean of each group of channels, and one over the standard deviation, (groups,).
inline void measure_groups(const Layer &layer, Pixels x, float *mean, float *reciprocal) {
    Vector mean_of(layer.in), squares(layer.in);
    moments<WIDEST>(x, layer.images.pixels(), layer.in, mean_of.data(), squares.data());
    long channels = layer.of_group();
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
        long g = c / layer.of_group();
        room.scale[c] = weights.norm_weight[c] * reciprocal[g];
        room.shift[c] = weights.norm_bias[c] - mean[g] * room.scale[c];
    }
}

// What a channel keeps of itself.
template <int L>
inline Vec<L> kept(Vec<L> given) {
    return given == 0 ? Vec<L>{} + 1 : given;
}

// z = kept·x + the other half's given·x, of one row. One function for both directions, so that they agree on what is
// informative.
template <int L>
__attribute__((noinline)) void reconstruct(const Layer &layer, Pixels x, const float *scale, const float *shift,
                                           Pixels given, Pixels z) {
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

inline void copy_row(Pixels from, long width, long channels, Pixels to) {
    for (long p = 0; p < width; p++)
        for (long c = 0; c < channels; c += 8) store<8>(to[p] + c, load<8>(from[p] + c));
}

// From x to what the two paths convolve, up and low, of one image.
inline void squeeze_image(const Layer &layer, const Weights &weights, Pixels x, bool keeps_rows, const Room &room) {
    long width = layer.images.width;
    for (long r = 0; r < layer.images.height; r++) {
        Pixels z = room.z.from(keeps_rows ? r * width : 0), given = room.given.from(keeps_rows ? r * width : 0);
        by_lanes(layer.in / 2, [&](auto lanes) {
            reconstruct<decltype(lanes)::value>(layer, x.from(r * width), room.scale.data(), room.shift.data(), given, z);
        });
        Pixels up = room.up.row(r), low = room.low.from(r * width), lower = z.from(0, layer.upper);
        if (weights.squeeze1) {
            multiply(z, width, layer.upper, weights.squeeze1, whole(layer.up), nullptr, up);
            multiply(lower, width, layer.lower(), weights.squeeze2, whole(layer.low), nullptr, low);
        } else {
            copy_row(z, width, layer.up, up);
            copy_row(lower, width, layer.low, low);
        }
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

// The sums over the pixels of an image of what the taps read, (taps, up), and of low.
inline void sum_paths(const Layer &layer, Room &room) {
    std::fill(room.sums1.begin(), room.sums1.end(), 0.f);
    for (long r = 0; r < layer.images.height; r++)
        for (long column = 0; column < layer.kernel.columns; column++)
            for (long k = 0; k < layer.up; k += 4) sum_tap_column(room.up, r, column, k, room.sums1.data());
    for (long k = 0; k < layer.low; k += 4)
        store<4>(&room.sums2[k], sum_over<4>(layer.images.pixels(), [&](long p) { return load<4>(room.low[p] + k); }));
}

inline void find_difference(const Layer &layer, const Weights &weights, const Room &room, float *difference) {
    Vector sums1(layer.out), sums2(layer.out);
    multiply({room.sums1.data(), layer.taps()}, 1, layer.taps(), weights.kernel, layer.out, nullptr, {sums1.data(), 0});
    multiply({room.sums2.data(), layer.low}, 1, layer.low, weights.second, layer.out, nullptr, {sums2.data(), 0});
    for (long c = 0; c < layer.out; c++)
        difference[c] = ((sums1[c] - sums2[c]) / layer.images.pixels() + weights.bias1[c] - weights.bias2[c]) *
                        weights.steepness[c];
}

inline void find_betas(const Layer &layer, const float *difference, Room &room) {
    for (long c = 0; c < layer.out; c++) {
        room.beta1[c] = 1 / (1 + std::exp(-difference[c]));
        room.beta2[c] = 1 / (1 + std::exp(difference[c]));
    }
}

inline void scale_rows(const float *matrix, long rows, const Vector &factor, Vector &result) {
    long width = factor.size();
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < width; c++) result[r * width + c] = matrix[r * width + c] * factor[c];
}

// β₁·y₁ + β₂·y₂ of up and low, as one sum.
inline void fuse_image(const Layer &layer, const Weights &weights, Room &room, Pixels y) {
    long width = layer.images.width;
    scale_rows(weights.kernel, layer.taps(), room.beta1, room.kernel);
    scale_rows(weights.second, layer.low, room.beta2, room.second);
    for (long c = 0; c < layer.out; c++)
        room.bias[c] = room.beta1[c] * weights.bias1[c] + room.beta2[c] * weights.bias2[c];
    for (long r = 0; r < layer.images.height; r++) {
        Pixels row = y.from(r * width);
        multiply<Start::bias>(room.low.from(r * width), width, layer.low, room.second.data(), layer.out,
                              room.bias.data(), row);
        convolve_row<Start::y>(room.up, r, room.kernel.data(), layer.out, nullptr, row);
    }
}

// What the backward pass needs of the forward pass besides x.
struct Saved {
    float *mean, *reciprocal;  // of the norm's groups, (N, groups)
    float *difference;         // of the paths' means, (N, out)
};

inline void forward_images(const Layer &layer, const Weights &weights, const float *x, const Saved &saved, float *y) {
    const Images &images = layer.images;
#pragma omp parallel num_threads(images.threads)
    {
        Room room(layer);
#pragma omp for schedule(static)
        for (long n = 0; n < images.number; n++) {
            Pixels image(x + n * images.pixels() * layer.in, layer.in);
            float *mean = saved.mean + n * layer.norm_groups, *reciprocal = saved.reciprocal + n * layer.norm_groups;
            float *difference = saved.difference + n * layer.out;
            measure_groups(layer, image, mean, reciprocal);
            find_scores(layer, weights, mean, reciprocal, room);
            squeeze_image(layer, weights, image, false, room);
            sum_paths(layer, room);
            find_difference(layer, weights, room, difference);
            find_betas(layer, difference, room);
            fuse_image(layer, weights, room, {y + n * images.pixels() * layer.out, layer.out});
        }
    }
}
