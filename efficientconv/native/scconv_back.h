// SCConv's gradients, of one image at a time: its squeezed channels are computed again, and nothing leaves the cache.
//
// With G the gradient of a kernel for the output's gradient as it is, the sum of that gradient times y is the sum of G
// times the kernel: so neither y₁ nor y₂ is computed again.
#pragma once
#include "scconv_passes.h"

// Weights transposed.
struct Turned {
    Vector squeeze;  // (squeezed, in)
    Vector kernel;   // (groups, rows turned, width, wide): one row of taps at a time

    // The columns of a row of taps, as one product gives them.
    static long wide(const Layer &layer) { return (layer.kernel.columns * layer.depth() + 7) / 8 * 8; }
    static long of_group(const Layer &layer) { return layer.kernel.rows * layer.width() * wide(layer); }

    Turned(const Layer &layer, const Weights &weights)
        : squeeze(transposed(weights.squeeze, layer.in, layer.squeezed())), kernel(layer.groups * of_group(layer)) {
        long depth = layer.kernel.columns * layer.depth(), rows = layer.kernel.rows;
        for (long row = 0; row < rows; row++)
            for (long k = 0; k < depth; k++)
                for (long c = 0; c < layer.out; c++) {
                    long at = (rows - 1 - row) * layer.width() + c % layer.width();
                    kernel[c / layer.width() * of_group(layer) + at * wide(layer) + k] =
                        weights.kernel[(row * depth + k) * layer.out + c];
                }
    }
};

// Gradients: of x, and of the weights for each chunk.
struct Found {
    float *x, *norm_weight, *norm_bias, *squeeze, *kernel, *pointwise, *bias;

    Found of_chunk(const Layer &layer, long chunk) const {
        return {x,
                norm_weight + chunk * layer.in,
                norm_bias + chunk * layer.in,
                squeeze + chunk * layer.in * layer.squeezed(),
                kernel + chunk * layer.rows() * layer.out,
                pointwise + chunk * layer.squeezed() * layer.out,
                bias + chunk * layer.out};
    }
};

struct BackRoom : Room {
    Padded by_y1;                                 // without a border on the left and the right
    Rows by_columns, by_squeezed, by_z;           // of one row; by_columns with a border of zeros
    Vector by_kernel, by_pointwise, by_y, means;  // for the output's gradient as it is; of the mean of y₁
    Vector turned, turned_shift;  // from the output's gradient through the 1×1s, (out, squeezed), (squeezed,)
    Vector by_scale, by_offset, slope, constant;

    explicit BackRoom(const Layer &layer)
        : Room(layer), by_y1(layer.images, {layer.kernel.rows, 1, layer.kernel.row_dilation, 1}, layer.out),
          by_columns(layer.images.width + 2 * layer.kernel.left(), Turned::wide(layer)),
          by_squeezed(layer.images.width, layer.squeezed()), by_z(layer.images.width, layer.in),
          by_kernel(kernel.size()), by_pointwise(pointwise.size()), by_y(layer.out), means(layer.out),
          turned(pointwise.size()), turned_shift(layer.squeezed()), by_scale(layer.in), by_offset(layer.in),
          slope(layer.in), constant(layer.in) {}
};

// The gradients of kernel, 1×1s and biases, for the output's gradient as it is; `next` will be written after that.
inline void sum_products(const Layer &layer, Pixels grad, Pixels next, BackRoom &room) {
    long width = layer.images.width;
    for (Vector *sums : {&room.by_kernel, &room.by_pointwise, &room.by_y}) std::fill(sums->begin(), sums->end(), 0.f);
    for (long r = 0, rows; r < layer.images.height; r += rows) {
        rows = strip(layer.images, r);
        Pixels by = grad.from(r * width);
        fetch<For::writing>(next.from(r * width), rows * width);
        for (long g = 0; g < layer.groups; g++) {
            long first = g * layer.width();
            add_strip_kernel_gradient(room.up[g], r, rows, by.from(0, first), width * layer.out, layer.width(),
                                      {&room.by_kernel[first], layer.out});
        }
        add_products(room.squeezed.from(r * width), layer.squeezed(), by, layer.out, rows * width,
                     room.by_pointwise.data());
        for (long c = 0; c < layer.out; c += 8)
            store<8>(&room.by_y[c],
                     load<8>(&room.by_y[c]) + sum_over<8>(rows * width, [&](long p) { return load<8>(by[p] + c); }));
    }
}

// sum += the sum over the rows of by·matrix, (out,).
inline void add_sum_of_products(const float *by, const float *matrix, long rows, Vector &sum) {
    long width = sum.size();
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < width; c++) sum[c] += by[r * width + c] * matrix[r * width + c];
}

// From the output's gradient to what is added to each pixel's gradient of y₁, and taken from that of y₂.
inline void back_through_means(const Layer &layer, const Weights &weights, BackRoom &room) {
    Vector by_beta1(layer.out), by_beta2(layer.out);
    long of_up = layer.up * layer.out;
    add_sum_of_products(room.by_kernel.data(), weights.kernel, layer.rows(), by_beta1);
    add_sum_of_products(room.by_pointwise.data(), weights.pointwise, layer.up, by_beta1);
    add_sum_of_products(&room.by_pointwise[of_up], weights.pointwise + of_up, layer.low, by_beta2);
    for (long c = 0; c < layer.out; c++) {
        double by_beta = by_beta1[c] + (double)weights.bias1[c] * room.by_y[c] - by_beta2[c];
        room.means[c] = by_beta * room.beta1[c] * room.beta2[c] / layer.images.pixels();
    }
}

// to += beta·by + sum·means, (width,), with `by` the gradient for the output's as it is, and `sum` of what it meets.
inline void add_gradient(const float *by, const float *beta, const float *means, float sum, long width, float *to) {
    for (long c = 0; c < width; c++) to[c] += beta[c] * by[c] + sum * means[c];
}

// Adds the gradients of kernel, 1×1s and bias.
inline void add_gradients(const Layer &layer, const BackRoom &room, const Found &found) {
    const float *beta1 = room.beta1.data(), *beta2 = room.beta2.data(), *means = room.means.data();
    long out = layer.out, width = layer.width();
    for (long r = 0; r < layer.rows(); r++)
        for (long g = 0, c = 0; g < layer.groups; g++, c += width)
            add_gradient(&room.by_kernel[r * out + c], beta1 + c, means + c, room.tap_sums[g * layer.rows() + r], width,
                         found.kernel + r * out + c);
    for (long k = 0; k < layer.squeezed(); k++) {
        bool is_up = k < layer.up;
        add_gradient(&room.by_pointwise[k * out], is_up ? beta1 : beta2, means, is_up ? room.sums[k] : -room.sums[k],
                     out, found.pointwise + k * out);
    }
    add_gradient(room.by_y.data(), beta1, means, layer.images.pixels(), out, found.bias);
}

inline void find_gradient_of_y1(const Layer &layer, Pixels grad, const BackRoom &room) {
    by_lanes(layer.out, [&](auto lanes) {
        constexpr int L = decltype(lanes)::value;
        for (long r = 0; r < layer.images.height; r++) {
            Pixels from = grad.from(r * layer.images.width), to = room.by_y1.row(r);
            for (long p = 0; p < layer.images.width; p++)
                for (long c = 0; c < layer.out; c += L)
                    store<L>(to[p] + c, load<L>(from[p] + c) * load<L>(&room.beta1[c]) + load<L>(&room.means[c]));
        }
    });
}

inline void turn_pointwise(const Layer &layer, const Weights &weights, BackRoom &room) {
    for (long k = 0; k < layer.squeezed(); k++) {
        const Vector &beta = k < layer.up ? room.beta1 : room.beta2;
        const float *row = weights.pointwise + k * layer.out;
        float sum = 0;
        for (long c = 0; c < layer.out; c++) {
            room.turned[c * layer.squeezed() + k] = row[c] * beta[c];
            sum += row[c] * room.means[c];
        }
        room.turned_shift[k] = k < layer.up ? sum : -sum;
    }
}

// Adds what a group of the convolution makes of the gradient of y₁ to that of row r of what is squeezed.
inline void add_through_kernel(const Layer &layer, const Turned &turned, long r, long g, const BackRoom &room) {
    long border = layer.kernel.left();
    Pixels by_y1 = room.by_y1.tap(r, 0).from(0, g * layer.width()), to = room.by_squeezed.from(0, g * layer.depth());
    convolve(by_y1, room.by_y1.runs(), layer.images.width, layer.width(), &turned.kernel[g * Turned::of_group(layer)],
             Turned::wide(layer), nullptr, room.by_columns.from(border));
    for (long k = 0; k < layer.depth(); k += 4)
        for (long p = 0; p < layer.images.width; p++) {
            Vec<4> sum = load<4>(to[p] + k);
            for (long column = 0; column < layer.kernel.columns; column++)
                sum += load<4>(room.by_columns[p + 2 * border - column * layer.kernel.column_dilation] +
                               column * layer.depth() + k);
            store<4>(to[p] + k, sum);
        }
}

// From the gradient of a row of z to that of x but for the norm's statistics; adds to those of scale and offset, in
// scale·(x − mean) + offset: that of the scale in scale·x + shift would lose digits where the mean is far from zero.
template <int L>
void back_through_gate(const Layer &layer, Pixels x, Pixels given, Pixels by_z, Pixels by_x, BackRoom &room) {
    long half = layer.in / 2;
    for (long c = 0; c < layer.in; c += L) {
        long other = c < half ? c + half : c - half;
        Vec<L> factor = load<L>(&room.scale[c]), mean = load<L>(&room.mean[c]), by_scale = load<L>(&room.by_scale[c]);
        Vec<L> by_offset = load<L>(&room.by_offset[c]);
        for (long p = 0; p < layer.images.width; p++) {
            Vec<L> by = load<L>(by_z[p] + c), by_other = load<L>(by_z[p] + other), weight = load<L>(given[p] + c);
            Vec<L> value = load<L>(x[p] + c), by_score = (by + by_other) * value * weight * (1 - weight);
            by_scale += by_score * (value - mean);
            by_offset += by_score;
            store<L>(by_x[p] + c, kept<L>(weight) * by + weight * by_other + factor * by_score);
        }
        store<L>(&room.by_scale[c], by_scale);
        store<L>(&room.by_offset[c], by_offset);
    }
}

inline void back_row(const Layer &layer, const Turned &turned, Pixels x, Pixels grad, long r, BackRoom &room,
                     Pixels by_x, const Found &found) {
    long width = layer.images.width, squeezed = layer.squeezed();
    Pixels z = room.z.from(r * width);
    multiply<Start::bias>(grad, width, layer.out, room.turned.data(), squeezed, room.turned_shift.data(),
                          room.by_squeezed);
    for (long g = 0; g < layer.groups; g++) add_through_kernel(layer, turned, r, g, room);
    for (const Block &block : blocks(layer)) {
        Pixels by = room.by_squeezed.from(0, block.to);
        add_products(z.from(0, block.from), block.depth, by, block.width, width,
                     {found.squeeze + block.from * squeezed + block.to, squeezed});
        multiply(by, width, block.width, {&turned.squeeze[block.to * layer.in + block.from], layer.in}, block.depth,
                 room.by_z.from(0, block.from));
    }
    by_lanes(layer.in / 2, [&](auto lanes) {
        back_through_gate<decltype(lanes)::value>(layer, x, room.given.from(r * width), room.by_z, by_x, room);
    });
}

// What the statistics of the groups add to the gradient of x: slope·x + constant. Adds to those of weight and bias.
inline void back_through_statistics(const Layer &layer, const Weights &weights, const float *mean,
                                    const float *reciprocal, BackRoom &room, const Found &found) {
    long channels = layer.of_norm_group();
    double count = channels * layer.images.pixels();
    for (long g = 0; g < layer.norm_groups; g++) {
        double by_mean = 0, by_reciprocal = 0, one = reciprocal[g];
        for (long c = g * channels; c < (g + 1) * channels; c++) {
            found.norm_weight[c] += room.by_scale[c] * one;
            found.norm_bias[c] += room.by_offset[c];
            by_reciprocal += (double)room.by_scale[c] * weights.norm_weight[c];
            by_mean -= (double)room.by_offset[c] * room.scale[c];
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
            store<L>(by_x[p] + c,
                     load<L>(by_x[p] + c) + load<L>(&room.slope[c]) * load<L>(x[p] + c) + load<L>(&room.constant[c]));
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
    Pixels next = x.from(n + 1 < images.number ? images.pixels() : 0);
    const float *mean = given.saved.mean + n * layer.norm_groups;
    const float *reciprocal = given.saved.reciprocal + n * layer.norm_groups;
    find_scores(layer, given.weights, mean, reciprocal, room);
    squeeze_image<For::reading>(layer, given.weights, x, grad, true, room);
    sum_paths(layer, room);
    find_betas(layer, given.saved.difference + n * layer.out, room);
    sum_products(layer, grad, by_x, room);
    back_through_means(layer, given.weights, room);
    add_gradients(layer, room, found);
    find_gradient_of_y1(layer, grad, room);
    turn_pointwise(layer, given.weights, room);
    std::fill(room.by_scale.begin(), room.by_scale.end(), 0.f);
    std::fill(room.by_offset.begin(), room.by_offset.end(), 0.f);
    for (long r = 0; r < images.height; r++) {
        long first = r * images.width;
        fetch<For::reading>(next.from(first), images.width);
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
