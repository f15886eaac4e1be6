// BSConv as one operator: in training BSConv-S, both 1×1 convolutions, their batch norms and the depthwise one; for
// inference BSConv-U as well.
//
// The variances of M·t follow from the covariance C of t: they are the diagonal of M·C·Mᵀ, with M = second·scale1. So a
// training step has to know two things of all images: t's statistics on the way there, the gradients of M on the way
// back.
#include "bsconv_passes.h"
#include "norm.h"

namespace {

// The parameters or their gradients, each as its module has it.
struct Parameters {
    float *first, *weight1, *bias1, *second, *weight2, *bias2;  // (mid, in), (mid,) twice, (out, mid), (out,) twice
    float *depthwise, *bias;                                    // (out, taps), (out,)
};

// Of a layer whose norms are folded; BSConv-U has no first convolution.
struct Folded {
    float *first, *bias1, *second, *bias2;  // (mid, in), (mid,), (out, mid), (out,)
    float *depthwise, *bias;                // (out, taps), (out,)
};

// What the backward pass needs of the forward pass besides x; the first norm's bias is the mean of the second's input.
struct Saved {
    float *t, *spread;         // (N, H, W, width), (out, mid): M·C
    float *mean1, *variance1;  // (mid,)
    float *mean2, *variance2;  // (out,)
};

using Doubles = std::vector<double>;

// The rows of a matrix, behind which zeros fill a vector.
Vector filled(const float *matrix, long rows, long columns, long width) {
    Vector result(rows * width);
    for (long r = 0; r < rows; r++) std::copy_n(matrix + r * columns, columns, &result[r * width]);
    return result;
}

// Of t, whose means are known, in double precision.
Doubles exact_covariance(const Layer &layer, const float *t, const float *mean) {
    long mid = layer.mid, size = mid * mid, pixels = layer.images.pixels();
    Doubles chunks(CHUNKS * size), result(size);
#pragma omp parallel for schedule(static) num_threads(layer.images.threads)
    for (long chunk = 0; chunk < CHUNKS; chunk++) {
        Doubles difference(mid);
        double *sum = &chunks[chunk * size];
        for_images_of(chunk, layer.images, [&](long n) {
            Pixels image = layer.t(t, n, 0);
            for (long p = 0; p < pixels; p++) {
                for (long k = 0; k < mid; k++) difference[k] = (double)image[p][k] - mean[k];
                for (long k = 0; k < mid; k++)
                    for (long j = 0; j < mid; j++) sum[k * mid + j] += difference[k] * difference[j];
            }
        });
    }
    for (size_t at = 0; at < chunks.size(); at++) result[at % size] += chunks[at] / (layer.images.number * pixels);
    return result;
}

// Both norms, and M between them.
struct Norms {
    Vector reciprocal1, scale1, matrix, reciprocal2, scale2;  // (mid,) twice, (out, mid), (out,) twice

    Norms(const Layer &layer, const Parameters &p, const float *variance1)
        : reciprocal1(layer.mid), scale1(layer.mid), matrix(layer.out * layer.mid), reciprocal2(layer.out),
          scale2(layer.out) {
        for (long k = 0; k < layer.mid; k++) {
            reciprocal1[k] = 1 / std::sqrt(variance1[k] + layer.epsilon1);
            scale1[k] = p.weight1[k] * reciprocal1[k];
        }
        for (size_t at = 0; at < matrix.size(); at++) matrix[at] = p.second[at] * scale1[at % layer.mid];
    }

    void set_second(const Layer &layer, const Parameters &p, const float *variance2) {
        for (long c = 0; c < layer.out; c++) {
            reciprocal2[c] = 1 / std::sqrt(variance2[c] + layer.epsilon2);
            scale2[c] = p.weight2[c] * reciprocal2[c];
        }
    }
};

// M·C and the variances of M·t. Returns the smallest share of a variance in the sum of its terms' squares.
double spread_and_variance(const Layer &layer, const Norms &norms, const Doubles &covariance, float *spread,
                           float *variance) {
    long mid = layer.mid;
    double smallest = 1;
    for (long c = 0; c < layer.out; c++) {
        const float *row = &norms.matrix[c * mid];
        double sum = 0, squares = 0;
        for (long k = 0; k < mid; k++) {
            double product = 0;
            for (long j = 0; j < mid; j++) product += row[j] * covariance[k * mid + j];
            spread[c * mid + k] = product;
            sum += product * row[k];
            squares += row[k] * covariance[k * mid + k] * row[k];
        }
        variance[c] = std::max(sum, 0.);
        if (squares > 0) smallest = std::min(smallest, sum / squares);
    }
    return smallest;
}

constexpr double LEAST_SHARE = 0.01;  // with less, single precision would lose two digits more; as bsconv_training.py

// Finds the statistics of both norms' inputs, with M·C.
void measure(const Layer &layer, const Parameters &p, const float *x, const Saved &saved) {
    long width = layer.width(), mid = layer.mid;
    Vector first = filled(transposed(p.first, mid, layer.in).data(), layer.in, mid, width);
    Vector means(layer.images.number * width), products(CHUNKS * width * width), mean(width), covariance(width * width);
    find_subspace(layer, first, x, saved.t, means, products);
    join_covariances(layer.images, width, means, products, mean.data(), covariance.data());
    std::copy_n(mean.data(), mid, saved.mean1);
    Doubles rounded(mid * mid);
    for (long at = 0; at < mid * mid; at++) rounded[at] = covariance[at / mid * width + at % mid];
    for (long k = 0; k < mid; k++) saved.variance1[k] = std::max(rounded[k * mid + k], 0.);
    double share = spread_and_variance(layer, Norms(layer, p, saved.variance1), rounded, saved.spread, saved.variance2);
    if (share <= LEAST_SHARE) {
        Doubles exact = exact_covariance(layer, saved.t, saved.mean1);
        for (long k = 0; k < mid; k++) saved.variance1[k] = exact[k * mid + k];
        spread_and_variance(layer, Norms(layer, p, saved.variance1), exact, saved.spread, saved.variance2);
    }
    for (long c = 0; c < layer.out; c++) {
        saved.mean2[c] = 0;
        for (long k = 0; k < mid; k++) saved.mean2[c] += p.second[c * mid + k] * p.bias1[k];
    }
}

Norms known_norms(const Layer &layer, const Parameters &p, const Saved &saved) {
    Norms norms(layer, p, saved.variance1);
    norms.set_second(layer, p, saved.variance2);
    return norms;
}

Weights arranged(const Layer &layer, const Parameters &p, const Saved &saved, const Norms &norms) {
    long taps = layer.kernel.taps();
    Vector scaled = norms.matrix;
    for (size_t at = 0; at < scaled.size(); at++) scaled[at] *= norms.scale2[at / layer.mid];
    Weights weights{filled(saved.mean1, 1, layer.mid, layer.width()),
                    Vector(layer.width() * layer.out),
                    Vector(p.bias2, p.bias2 + layer.out),
                    transposed(p.depthwise, layer.out, taps),
                    filled(scaled.data(), layer.out, layer.mid, layer.width()),
                    turned_depthwise(p.depthwise, layer.out, taps)};
    weights.product = transposed(weights.product_back.data(), layer.out, layer.width());
    return weights;
}

// What the statistics of t add to its gradient: slopes·(t − mean) + constant.
struct ByStatistics {
    Vector slopes, constant;  // (width, width), (width,)
};

// by.bias1 stays zero: the second norm takes out what it adds.
ByStatistics back_through_norms(const Layer &layer, const Parameters &p, const Saved &saved, const Norms &norms,
                                const Weights &weights, const ByWeights &by_weights, const Parameters &by) {
    long mid = layer.mid, width = layer.width();
    double count = layer.images.number * layer.images.pixels();
    ByStatistics result{Vector(width * width), Vector(width)};
    Doubles by_scale1(mid), slopes(mid * mid);
    for (long c = 0; c < layer.out; c++) {
        const float *row = &norms.matrix[c * mid];
        double by_scale2 = 0;
        for (long k = 0; k < mid; k++) by_scale2 += (double)by_weights.product[k * layer.out + c] * row[k];
        by.weight2[c] = by_scale2 * norms.reciprocal2[c];
        by.bias2[c] = by_weights.shift[c];
        double slope = by.weight2[c] * norms.reciprocal2[c] * norms.scale2[c];  // −2·the gradient of the variance
        for (long k = 0; k < mid; k++) {
            double by_matrix =
                (double)by_weights.product[k * layer.out + c] * norms.scale2[c] - slope * saved.spread[c * mid + k];
            by_scale1[k] += by_matrix * p.second[c * mid + k];
            by.second[c * mid + k] = by_matrix * norms.scale1[k];
            for (long j = 0; j < mid; j++) slopes[k * mid + j] += slope * row[k] * row[j];
            result.constant[k] -= by_weights.shift[c] * weights.product[k * layer.out + c] / count;
        }
    }
    for (long k = 0; k < mid; k++) {
        by.weight1[k] = by_scale1[k] * norms.reciprocal1[k];
        slopes[k * mid + k] += by.weight1[k] * norms.reciprocal1[k] * norms.scale1[k];
        for (long j = 0; j < mid; j++) result.slopes[k * width + j] = -slopes[k * mid + j] / count;
    }
    return result;
}

}  // namespace

extern "C" {

void forward(const Layer &layer, const Parameters &p, const float *x, const Saved &saved, float *y) {
    measure(layer, p, x, saved);
    Weights weights = arranged(layer, p, saved, known_norms(layer, p, saved));
    auto z = [&](long n, long r, Pixels room, Pixels z) { expand(layer, weights, layer.t(saved.t, n, r), room, z); };
    convolve_images(layer, z, weights.depthwise.data(), p.bias, {}, y);
}

// by holds zeros; by_t is room for the gradient of t, (N, H, W, width).
void backward(const Layer &layer, const Parameters &p, const float *x, const Saved &saved, const float *grad,
              float *by_t, float *by_x, const Parameters &by) {
    Norms norms = known_norms(layer, p, saved);
    Weights weights = arranged(layer, p, saved, norms);
    ByWeights by_weights(layer);
    back_images(layer, weights, saved.t, grad, by_t, by_weights);
    for (Vector *chunks : {&by_weights.product, &by_weights.shift, &by_weights.depthwise, &by_weights.bias})
        sum_chunks(*chunks);
    ByStatistics to_t = back_through_norms(layer, p, saved, norms, weights, by_weights, by);
    Vector first = filled(p.first, 1, layer.mid * layer.in, layer.width() * layer.in);
    back_to_x(layer, weights, to_t.slopes, to_t.constant, first, saved.t, x, by_t, by_x, by_weights);
    sum_chunks(by_weights.first);
    std::copy_n(by_weights.first.data(), layer.mid * layer.in, by.first);
    Vector depthwise = transposed(by_weights.depthwise.data(), layer.kernel.taps(), layer.out);
    std::copy(depthwise.begin(), depthwise.end(), by.depthwise);
    std::copy_n(by_weights.bias.data(), layer.out, by.bias);
}

// shortcut may be null; so are first and bias1 of BSConv-U, whose mid is in.
void inference(const Layer &layer, const Folded &p, const float *x, const float *shortcut, long activates, float *y) {
    long width = layer.width(), pixels = layer.images.width;
    Vector first, bias1 = filled(p.bias1, p.first ? 1 : 0, layer.mid, width);
    if (p.first) first = filled(transposed(p.first, layer.mid, layer.in).data(), layer.in, layer.mid, width);
    Vector second = transposed(p.second, layer.out, layer.mid);
    Vector depthwise = transposed(p.depthwise, layer.out, layer.kernel.taps());
    auto z = [&](long n, long r, Pixels room, Pixels z) {
        Pixels from = layer.x(x, n, r);
        if (p.first) {
            multiply<Start::bias>(from, pixels, layer.in, first.data(), width, bias1.data(), room);
            from = room;
        }
        multiply<Start::bias>(from, pixels, layer.mid, second.data(), layer.out, p.bias2, z);
    };
    convolve_images(layer, z, depthwise.data(), p.bias, {shortcut, activates, y}, y);
}
}
