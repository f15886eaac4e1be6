// SCConv's gradients, of one image at a time: its squeezed channels are computed again, and nothing leaves the cache.
//
// With G, the gradient of a kernel for the output's gradient as it is, the sum of that times y is the sum of G times the
// kernel: so neither y₁ nor y₂ is computed again.
#pragma once
#include "scconv_passes.h"

// The weights transposed.
struct Turned {
    Vector squeeze1, squeeze2;  // (up, upper), (low, lower)
    Vector kernel;              // (rows turned, out, whole(columns·up)): one row of taps at a time

    Turned(const Layer &layer, const Weights &weights, const float *squeeze1, const float *squeeze2)
        : squeeze1(squeeze1, squeeze1 + layer.up * layer.upper),
          squeeze2(squeeze2, squeeze2 + layer.low * layer.lower()),
          kernel(layer.kernel.rows * layer.out * whole(layer.kernel.columns * layer.up)) {
        long depth = layer.kernel.columns * layer.up, wide = whole(depth);
        for (long row = 0; row < layer.kernel.rows; row++)
            for (long k = 0; k < depth; k++)
                for (long c = 0; c < layer.out; c++)
                    kernel[((layer.kernel.rows - 1 - row) * layer.out + c) * wide + k] =
                        weights.kernel[(row * depth + k) * layer.out + c];
    }
};

// Gradients: of x, and of the weights for each chunk.
struct Found {
    float *x, *norm_weight, *norm_bias, *squeeze1, *squeeze2, *kernel, *second, *bias;

    Found of_chunk(const Layer &layer, long chunk) const {
        return {x,
                norm_weight + chunk * layer.in,
                norm_bias + chunk * layer.in,
                squeeze1 + chunk * layer.upper * whole(layer.up),
                squeeze2 + chunk * layer.lower() * whole(layer.low),
                kernel + chunk * layer.taps() * layer.out,
                second + chunk * layer.low * layer.out,
                bias + chunk * layer.out};
    }
};

struct BackRoom : Room {
    Padded by_y1;                              // without a border on the left and the right
    Rows by_columns, by_up, by_low, by_z;      // of one row; by_columns with a border of zeros
    Vector by_kernel, by_second, by_y, means;  // for the output's gradient as it is; of the mean of y₁
    Vector second_turned, second_shift, by_scale, by_shift, slope, constant;

    explicit BackRoom(const Layer &layer)
        : Room(layer), by_y1(layer.images, {layer.kernel.rows, 1, layer.kernel.row_dilation, 1}, layer.out),
          by_columns(layer.images.width + 2 * layer.kernel.left(), whole(layer.kernel.columns * layer.up)),
          by_up(layer.images.width, whole(layer.up)), by_low(layer.images.width, whole(layer.low)),
          by_z(layer.images.width, layer.in), by_kernel(kernel.size()), by_second(second.size()), by_y(layer.out),
          means(layer.out), second_turned(layer.out * whole(layer.low)), second_shift(whole(layer.low)),
          by_scale(layer.in), by_shift(layer.in), slope(layer.in), constant(layer.in) {}
};

// The gradients of the kernels and of both biases, for the output's gradient as it is.
inline void sum_products(const Layer &layer, Pixels grad, BackRoom &room) {
    long width = layer.images.width;
    for (Vector *sums : {&room.by_kernel, &room.by_second, &room.by_y}) std::fill(sums->begin(), sums->end(), 0.f);
    for (long r = 0; r < layer.images.height; r++) {
        Pixels row = grad.from(r * width);
        add_row_kernel_gradient(room.up, r, row, layer.out, room.by_kernel.data());
        add_products(room.low.from(r * width), layer.low, row, layer.out, width, room.by_second.data());
        for (long c = 0; c < layer.out; c += 8)
            store<8>(&room.by_y[c], load<8>(&room.by_y[c]) + sum_over<8>(width, [&](long p) { return load<8>(row[p] + c); }));
    }
}

// The sum over the rows of by·matrix, (out,).
inline Vector sum_of_products(const Vector &by, const float *matrix, long width) {
    Vector sum(width);
    for (size_t first = 0; first < by.size(); first += width)
        for (long c = 0; c < width; c++) sum[c] += by[first + c] * matrix[first + c];
    return sum;
}

// by += factor·by_image + sums·addend: the gradient of (rows, width) for that of y times factor, plus addend.
inline void add_gradient(const Vector &by_image, const Vector &factor, const Vector &sums, const Vector &addend,
                         float sign, float *by) {
    long width = factor.size();
    for (size_t r = 0; r < sums.size(); r++)
        for (long c = 0; c < width; c++)
            by[r * width + c] += factor[c] * by_image[r * width + c] + sign * sums[r] * addend[c];
}

// From the output's gradient to what is added to each pixel's gradient of y₁, and taken from that of y₂.
inline void back_through_fusion(const Layer &layer, const Weights &weights, BackRoom &room, const Found &found) {
    Vector by_beta1 = sum_of_products(room.by_kernel, weights.kernel, layer.out);
    Vector by_beta2 = sum_of_products(room.by_second, weights.second, layer.out);
    for (long c = 0; c < layer.out; c++) {
        double by_beta = by_beta1[c] + (double)weights.bias1[c] * room.by_y[c] - by_beta2[c];
        room.means[c] = by_beta * room.beta1[c] * room.beta2[c] / layer.images.pixels();
        found.bias[c] += room.beta1[c] * room.by_y[c] + room.means[c] * layer.images.pixels();
    }
    add_gradient(room.by_kernel, room.beta1, room.sums1, room.means, 1, found.kernel);
    add_gradient(room.by_second, room.beta2, room.sums2, room.means, -1, found.second);
}

// The gradient of y₁, and the way from the output's gradient to that of low.
inline void begin_with_paths(const Layer &layer, const Weights &weights, Pixels grad, BackRoom &room) {
    for (long r = 0; r < layer.images.height; r++) {
        Pixels from = grad.from(r * layer.images.width), to = room.by_y1.row(r);
        by_lanes(layer.out, [&](auto lanes) {
            constexpr int L = decltype(lanes)::value;
            for (long p = 0; p < layer.images.width; p++)
                for (long c = 0; c < layer.out; c += L)
                    store<L>(to[p] + c, load<L>(from[p] + c) * load<L>(&room.beta1[c]) + load<L>(&room.means[c]));
        });
    }
    for (long k = 0; k < layer.low; k++) {
        double shift = 0;
        for (long c = 0; c < layer.out; c++) {
            room.second_turned[c * whole(layer.low) + k] = weights.second[k * layer.out + c] * room.beta2[c];
            shift -= (double)weights.second[k * layer.out + c] * room.means[c];
        }
        room.second_shift[k] = shift;
    }
}

// The gradients of row r of up and low.
inline void back_to_squeezed(const Layer &layer, const Turned &turned, Pixels grad, long r, BackRoom &room) {
    long width = layer.images.width, border = layer.kernel.left();
    convolve_row(room.by_y1, r, turned.kernel.data(), room.by_columns.stride, nullptr, room.by_columns.from(border));
    for (long k = 0; k < layer.up; k += 4)
        for (long p = 0; p < width; p++) {
            Vec<4> sum = {};
            for (long column = 0; column < layer.kernel.columns; column++)
                sum += load<4>(room.by_columns[p + 2 * border - column * layer.kernel.column_dilation] +
                               column * layer.up + k);
            store<4>(room.by_up[p] + k, sum);
        }
    multiply<Start::bias>(grad, width, layer.out, room.second_turned.data(), whole(layer.low),
                          room.second_shift.data(), room.by_low);
}

// From the gradient of a row of z to that of x but for the norm's statistics; adds to those of scale and shift.
template <int L>
void back_through_gate(const Layer &layer, Pixels x, Pixels given, Pixels by_z, Pixels by_x, BackRoom &room) {
    long half = layer.in / 2;
    for (long c = 0; c < layer.in; c += L) {
        long other = c < half ? c + half : c - half;
        Vec<L> factor = load<L>(&room.scale[c]), by_scale = load<L>(&room.by_scale[c]);
        Vec<L> by_shift = load<L>(&room.by_shift[c]);
        for (long p = 0; p < layer.images.width; p++) {
            Vec<L> by = load<L>(by_z[p] + c), by_other = load<L>(by_z[p] + other), weight = load<L>(given[p] + c);
            Vec<L> value = load<L>(x[p] + c), by_score = (by + by_other) * value * weight * (1 - weight);
            by_scale += by_score * value;
            by_shift += by_score;
            store<L>(by_x[p] + c, kept<L>(weight) * by + weight * by_other + factor * by_score);
        }
        store<L>(&room.by_scale[c], by_scale);
        store<L>(&room.by_shift[c], by_shift);
    }
}

inline void back_row(const Layer &layer, const Turned &turned, Pixels x, Pixels grad, long r, BackRoom &room,
                     Pixels by_x, const Found &found) {
    long width = layer.images.width;
    Pixels z = room.z.from(r * width);
    back_to_squeezed(layer, turned, grad, r, room);
    add_products(z, layer.upper, room.by_up, whole(layer.up), width, found.squeeze1);
    add_products(z.from(0, layer.upper), layer.lower(), room.by_low, whole(layer.low), width, found.squeeze2);
    multiply(room.by_up, width, layer.up, turned.squeeze1.data(), layer.upper, nullptr, room.by_z);
    multiply(room.by_low, width, layer.low, turned.squeeze2.data(), layer.lower(), nullptr,
             room.by_z.from(0, layer.upper));
    by_lanes(layer.in / 2, [&](auto lanes) {
        back_through_gate<decltype(lanes)::value>(layer, x, room.given.from(r * width), room.by_z, by_x, room);
    });
}

// What the statistics of the groups add to the gradient of x: slope·x + constant. Adds to those of weight and bias.
inline void back_through_statistics(const Layer &layer, const Weights &weights, const float *mean,
                                    const float *reciprocal, BackRoom &room, const Found &found) {
    long channels = layer.of_group();
    double count = channels * layer.images.pixels();
    for (long g = 0; g < layer.norm_groups; g++) {
        double by_mean = 0, by_reciprocal = 0, one = reciprocal[g];
        for (long c = g * channels; c < (g + 1) * channels; c++) {
            double centred = room.by_scale[c] - (double)mean[g] * room.by_shift[c];
            found.norm_weight[c] += centred * one;
            found.norm_bias[c] += room.by_shift[c];
            by_reciprocal += centred * weights.norm_weight[c];
            by_mean -= (double)room.by_shift[c] * room.scale[c];
        }
        double slope = -by_reciprocal * one * one * one / count;
        for (long c = g * channels; c < (g + 1) * channels; c++) {
            room.slope[c] = slope;
            room.constant[c] = by_mean / count - slope * mean[g];
        }
    }
}

inline void add_statistics(const Layer &layer, Pixels x, const BackRoom &room, Pixels by_x) {
    constexpr int L = WIDEST;
    for (long p = 0; p < layer.images.pixels(); p++)
        for (long c = 0; c < layer.in; c += L)
            store<L>(by_x[p] + c, load<L>(by_x[p] + c) + load<L>(&room.slope[c]) * load<L>(x[p] + c) +
                                      load<L>(&room.constant[c]));
}

// What the backward pass starts from.
struct Given {
    const float *x, *grad;
    Saved saved;
    Weights weights;
};

inline void back_image(const Layer &layer, const Given &given, const Turned &turned, long n, BackRoom &room,
                       const Found &found) {
    const Images &images = layer.images;
    Pixels x(given.x + n * images.pixels() * layer.in, layer.in), by_x(found.x + (x.data - given.x), layer.in);
    Pixels grad(given.grad + n * images.pixels() * layer.out, layer.out);
    const float *mean = given.saved.mean + n * layer.norm_groups;
    const float *reciprocal = given.saved.reciprocal + n * layer.norm_groups;
    find_scores(layer, given.weights, mean, reciprocal, room);
    squeeze_image(layer, given.weights, x, true, room);
    sum_paths(layer, room);
    find_betas(layer, given.saved.difference + n * layer.out, room);
    sum_products(layer, grad, room);
    back_through_fusion(layer, given.weights, room, found);
    begin_with_paths(layer, given.weights, grad, room);
    std::fill(room.by_scale.begin(), room.by_scale.end(), 0.f);
    std::fill(room.by_shift.begin(), room.by_shift.end(), 0.f);
    for (long r = 0; r < images.height; r++) {
        long first = r * images.width;
        back_row(layer, turned, x.from(first), grad.from(first), r, room, by_x.from(first), found);
    }
    back_through_statistics(layer, given.weights, mean, reciprocal, room, found);
    add_statistics(layer, x, room, by_x);
}

inline void back_images(const Layer &layer, const Given &given, const Turned &turned, const Found &found) {
#pragma omp parallel num_threads(layer.images.threads)
    {
        BackRoom room(layer);
#pragma omp for schedule(static)
        for (long chunk = 0; chunk < CHUNKS; chunk++) {
            Found to = found.of_chunk(layer, chunk);
            for_images_of(chunk, layer.images, [&](long n) { back_image(layer, given, turned, n, room, to); });
        }
    }
}
