// SPConv as one operator, at stride 1; where it strides, of windows as `windows.h` has them.
//
// Two things have to be known of all images before the output can be computed: the statistics of the two batch norms.
// Forward, an image goes through the layer twice, backward twice: once for the sums that the norms' gradients need.
#include "norm.h"
#include "spconv_passes.h"
#include "windows.h"

namespace {

// The parameters or their gradients, each as its module has it.
struct Parameters {
    float *grouped, *pointwise, *weight1, *bias1;   // (out, representative/groups, taps), (out, representative)
    float *second, *second_bias, *weight2, *bias2;  // (out, rest)
};

// What the backward pass needs of the forward pass besides x.
struct Saved {
    float *y1, *means1, *rest_means;     // (N, H, W, out), (N, out), (N, rest)
    float *rest_covariance, *rest_mean;  // (rest, rest), (rest,)
    float *mean1, *variance1, *mean2, *variance2;
};

// Without what only the backward pass needs, where that is not asked for.
Weights arranged(const Layer &layer, const Parameters &p, bool backward) {
    Groups groups = layer.grouped();
    long rest = layer.rest(), representative = layer.representative;
    Weights result{Vector(groups.size()),
                   Vector(backward ? groups.size() : 0),
                   p.pointwise ? transposed(p.pointwise, layer.out, representative) : Vector(),
                   p.pointwise && backward ? Vector(p.pointwise, p.pointwise + layer.out * representative) : Vector(),
                   transposed(p.second, layer.out, rest),
                   Vector(p.second, p.second + layer.out * rest),
                   Vector(p.second_bias, p.second_bias + layer.out)};
    for_weights(groups, [&](long here, long turned, long there) {
        result.grouped[here] = p.grouped[there];
        if (backward) result.turned[turned] = p.grouped[there];
    });
    return result;
}

// (out, rest) = second·covariance: of y2 with the rest.
Vector covariance_with_rest(const Layer &layer, const Weights &weights, const float *covariance) {
    Vector result(layer.out * layer.rest());
    multiply({weights.second_back.data(), layer.rest()}, layer.out, layer.rest(), covariance, layer.rest(), nullptr,
             {result.data(), layer.rest()});
    return result;
}

Statistics statistics_of_second(const Layer &layer, const Weights &weights, const float *mean,
                                const float *covariance) {
    Statistics result(layer.out);
    Vector with_rest = covariance_with_rest(layer, weights, covariance);
    for (long c = 0; c < layer.out; c++) {
        double middle = weights.bias[c], variance = 0;
        for (long k = 0; k < layer.rest(); k++) {
            double weight = weights.second_back[c * layer.rest() + k];
            middle += weight * mean[k];
            variance += weight * with_rest[c * layer.rest() + k];
        }
        result.mean[c] = middle;
        result.variance[c] = std::max(variance, 0.);
    }
    return result;
}

// What the fusion makes of the two norms, for each image: (N, out) each.
struct Gates {
    Vector means2, beta1, beta2, scales1, scales2, shifts;

    Gates(const Layer &layer, const Weights &weights, const Norm &norm1, const Norm &norm2, const float *means1,
          const float *rest_means)
        : means2(layer.images.number * layer.out), beta1(means2.size()), beta2(means2.size()), scales1(means2.size()),
          scales2(means2.size()), shifts(means2.size()) {
        multiply<Start::bias>({rest_means, layer.rest()}, layer.images.number, layer.rest(), weights.second.data(),
                              layer.out, weights.bias.data(), {means2.data(), layer.out});
        for (size_t at = 0; at < means2.size(); at++) {
            long c = at % layer.out;
            float difference =
                (norm1.scale[c] * means1[at] + norm1.shift[c]) - (norm2.scale[c] * means2[at] + norm2.shift[c]);
            beta1[at] = sigmoid(difference);
            beta2[at] = sigmoid(-difference);
            scales1[at] = beta1[at] * norm1.scale[c];
            scales2[at] = beta2[at] * norm2.scale[c];
            shifts[at] = beta1[at] * norm1.shift[c] + beta2[at] * norm2.shift[c] + scales2[at] * weights.bias[c];
        }
    }
};

// A norm of y as scale·(y − mean) + offset: a sum with y itself would lose digits where the mean is far from zero.
struct Centred {
    const Norm &norm;
    const float *mean, *offset;
};

// From the gradients of the output to those of the two norms' scales and offsets.
struct ByNorms {
    Vector by_scale1, by_offset1, by_scale2, by_offset2;  // (out,)
    Vector by_means;                                      // (N, out): of norm1(y1), and the opposite of norm2(y2)

    ByNorms(const Layer &layer, const Weights &weights, const Gates &gates, const Centred &first, const Centred &second,
            const float *means1, const Sums &sums)
        : by_scale1(layer.out), by_offset1(layer.out), by_scale2(layer.out), by_offset2(layer.out),
          by_means(gates.beta1.size()) {
        for (size_t at = 0; at < by_means.size(); at++) {
            long c = at % layer.out;
            float of_grad = sums.of_grad[at], of_y1 = sums.of_y1[at], of_y2 = sum_of_y2(layer, weights, sums, at);
            float by_beta = (of_y1 * first.norm.scale[c] + of_grad * first.offset[c]) -
                            (of_y2 * second.norm.scale[c] + of_grad * second.offset[c]);
            by_means[at] = by_beta * gates.beta1[at] * gates.beta2[at];
            by_scale1[c] += gates.beta1[at] * of_y1 + by_means[at] * (means1[at] - first.mean[c]);
            by_offset1[c] += gates.beta1[at] * of_grad + by_means[at];
            by_scale2[c] += gates.beta2[at] * of_y2 - by_means[at] * (gates.means2[at] - second.mean[c]);
            by_offset2[c] += gates.beta2[at] * of_grad - by_means[at];
        }
    }

    // Of grad·(y2 − mean2) over the pixels of an image.
    static float sum_of_y2(const Layer &layer, const Weights &weights, const Sums &sums, long at) {
        long n = at / layer.out, c = at % layer.out;
        float sum = 0;
        for (long k = 0; k < layer.rest(); k++)
            sum += weights.second[k * layer.out + c] * sums.of_rest[(n * layer.rest() + k) * layer.out + c];
        return sum;
    }
};

// The norm's part of the gradient of y1.
void back_through_first(const Layer &layer, const ByNorms &norms, const Norm &norm, const Statistics &of,
                        const Statistics &back, Gradients &by) {
    double count = layer.images.number * layer.images.pixels();
    by.slope1.resize(layer.out);
    by.constants1.resize(norms.by_means.size());
    for (long c = 0; c < layer.out; c++) by.slope1[c] = 2 * back.variance[c] / count;
    for (size_t at = 0; at < norms.by_means.size(); at++) {
        long c = at % layer.out;
        double constant = back.mean[c] / count - (double)by.slope1[c] * of.mean[c];
        by.constants1[at] = constant + norms.by_means[at] * norm.scale[c] / layer.images.pixels();
    }
}

// The norm's part of the gradient of the rest, and all of that of `second`, (out, rest): since the gradient of y2 is
// zero in sum, it meets the rest less its mean.
void back_through_second(const Layer &layer, const Weights &weights, const Saved &saved, const Sums &sums,
                         const ByNorms &norms, const Norm &norm, const Statistics &back, Gradients &by,
                         float *by_second) {
    long rest = layer.rest(), out = layer.out;
    double count = layer.images.number * layer.images.pixels();
    Vector with_rest = covariance_with_rest(layer, weights, saved.rest_covariance), scaled(out * rest);
    for (long c = 0; c < out; c++)
        for (long k = 0; k < rest; k++) {
            long at = c * rest + k;
            double sum = 2. * back.variance[c] * with_rest[at];
            for (long n = 0; n < layer.images.number; n++)
                sum +=
                    by.scales2[n * out + c] * sums.of_rest[(n * rest + k) * out + c] -
                    norms.by_means[n * out + c] * norm.scale[c] * (saved.rest_means[n * rest + k] - saved.rest_mean[k]);
            by_second[at] = sum;
            scaled[at] = 2 * back.variance[c] / count * weights.second_back[at];
        }
    by.slopes.resize(rest * rest);
    add_products({weights.second_back.data(), rest}, rest, {scaled.data(), rest}, rest, out, by.slopes.data());
    Vector by_y2(norms.by_means.size()), constant(rest);
    for (size_t at = 0; at < by_y2.size(); at++)
        by_y2[at] = back.mean[at % out] / count - norms.by_means[at] * norm.scale[at % out] / layer.images.pixels();
    for (long k = 0; k < rest; k++)
        for (long j = 0; j < rest; j++) constant[k] -= saved.rest_mean[j] * by.slopes[j * rest + k];
    by.constants.resize(layer.images.number * rest);
    multiply<Start::bias>({by_y2.data(), out}, layer.images.number, out, weights.second_back.data(), rest,
                          constant.data(), {by.constants.data(), rest});
}

// From the gate's arguments, where scale and shift of both norms are known. A norm behind the layer, whose scale went
// into both, is taken out of their difference again; null for none.
struct Known {
    const Layer &layer;
    const Weights &weights;
    Norm norm1, norm2;
    const float *scale_behind;

    void operator()(const Vector &mean1, const Vector &rest_mean, Vector &scale1, Vector &scale2, Vector &shift) const {
        for (long c = 0; c < layer.out; c++) {
            float mean2 = weights.bias[c];
            for (long k = 0; k < layer.rest(); k++) mean2 += weights.second[k * layer.out + c] * rest_mean[k];
            float difference = (norm1.scale[c] * mean1[c] + norm1.shift[c]) - (norm2.scale[c] * mean2 + norm2.shift[c]);
            if (scale_behind)
                difference = scale_behind[c] == 0 ? 0 : difference / scale_behind[c];  // both sides are the shift
            float beta1 = sigmoid(difference), beta2 = sigmoid(-difference);
            scale1[c] = beta1 * norm1.scale[c];
            scale2[c] = beta2 * norm2.scale[c];
            shift[c] = beta1 * norm1.shift[c] + beta2 * norm2.shift[c] + scale2[c] * weights.bias[c];
        }
    }
};

// The weights of a dense kernel, (out, representative, taps), that is zero outside the groups but at its centre.
void split_dense(const Layer &layer, const float *dense, Vector &grouped, Vector &pointwise) {
    long taps = layer.kernel.taps(), depth = layer.representative / layer.groups;
    for (long o = 0; o < layer.out; o++) {
        long first = o / (layer.out / layer.groups) * depth;  // of its group
        const float *kernels = dense + o * layer.representative * taps;
        std::copy_n(kernels + first * taps, depth * taps, &grouped[o * depth * taps]);
        for (long i = 0; i < layer.representative; i++)
            if (i < first || i >= first + depth) pointwise[o * layer.representative + i] = kernels[i * taps + taps / 2];
    }
}

}  // namespace

extern "C" {

void gather_windows(const Windows &windows, const float *x, float *y) {
    by_runs(windows.kept / windows.groups, [&](auto lanes) { gather<decltype(lanes)::value>(windows, x, y); });
}

void scatter_windows(const Windows &windows, const float *by_y, float *by_x) {
    by_runs(windows.kept / windows.groups, [&](auto lanes) { scatter<decltype(lanes)::value>(windows, by_y, by_x); });
}

void forward(const Layer &layer, const Parameters &p, const float *x, const Saved &saved, float *out) {
    long rest = layer.rest();
    Vector squares(layer.images.number * layer.out), products(CHUNKS * rest * rest);
    Weights weights = arranged(layer, p, false);
    measure_images(layer, weights, x, {saved.y1, saved.means1, squares.data(), saved.rest_means, products.data()});
    Vector rest_means(saved.rest_means, saved.rest_means + layer.images.number * rest);
    join_covariances(layer.images, rest, rest_means, products, saved.rest_mean, saved.rest_covariance);
    Statistics first(layer.images, layer.out, saved.means1, squares.data());
    Statistics second = statistics_of_second(layer, weights, saved.rest_mean, saved.rest_covariance);
    Gates gates(layer, weights, Norm(first, p.weight1, p.bias1, layer.epsilon1),
                Norm(second, p.weight2, p.bias2, layer.epsilon2), saved.means1, saved.rest_means);
    auto gate = [&](long n) {
        return Gate{&gates.scales1[n * layer.out], &gates.scales2[n * layer.out], &gates.shifts[n * layer.out]};
    };
    fuse_images(layer, weights, x, saved.y1, gate, out);
    first.copy_to(saved.mean1, saved.variance1);
    second.copy_to(saved.mean2, saved.variance2);
}

// by holds zeros, and keeps one: a norm takes out what the bias in front of it adds.
void backward(const Layer &layer, const Parameters &p, const float *x, const Saved &saved, const float *grad,
              float *by_x, const Parameters &by) {
    Weights weights = arranged(layer, p, true);
    Statistics first(layer.out, saved.mean1, saved.variance1), second(layer.out, saved.mean2, saved.variance2);
    Norm norm1(first, p.weight1, p.bias1, layer.epsilon1), norm2(second, p.weight2, p.bias2, layer.epsilon2);
    Gates gates(layer, weights, norm1, norm2, saved.means1, saved.rest_means);
    Sums sums(layer, x, saved.rest_mean, saved.y1, saved.mean1, grad);
    ByNorms norms(layer, weights, gates, {norm1, saved.mean1, p.bias1}, {norm2, saved.mean2, p.bias2}, saved.means1,
                  sums);
    Gradients to{gates.scales1, gates.scales2, {}, {}, {}, {}};
    back_through_first(
        layer, norms, norm1, first,
        back_through_norm(first, p.weight1, layer.epsilon1, norms.by_scale1, norms.by_offset1, by.weight1, by.bias1),
        to);
    back_through_second(
        layer, weights, saved, sums, norms, norm2,
        back_through_norm(second, p.weight2, layer.epsilon2, norms.by_scale2, norms.by_offset2, by.weight2, by.bias2),
        to, by.second);
    Groups groups = layer.grouped();
    Vector by_grouped(CHUNKS * groups.size()), by_pointwise(CHUNKS * layer.representative * layer.out);
    back_images(layer, weights, to, x, saved.y1, grad, by_x, {by_grouped.data(), by_pointwise.data()});
    sum_chunks(by_grouped);
    sum_chunks(by_pointwise);
    for_weights(groups, [&](long here, long, long there) { by.grouped[there] = by_grouped[here]; });
    for (long o = 0; o < layer.out; o++)
        for (long i = 0; i < layer.representative; i++)
            by.pointwise[o * layer.representative + i] = by_pointwise[i * layer.out + o];
}

// With the scale and the shift of each norm in the places of its weight and its bias; scale_behind and shortcut may be
// null.
void inference(const Layer &layer, const Parameters &p, const float *scale_behind, const float *x,
               const float *shortcut, long activates, float *out) {
    Weights weights = arranged(layer, p, false);
    Norm norm1(p.weight1, p.bias1, layer.out), norm2(p.weight2, p.bias2, layer.out);
    infer_images(layer, weights, x, Known{layer, weights, norm1, norm2, scale_behind}, {shortcut, activates, out}, out);
}

// The same, where one dense kernel, (out, representative, taps), stands in the place of the grouped one.
void dense_inference(const Layer &layer, const Parameters &p, const float *scale_behind, const float *x,
                     const float *shortcut, long activates, float *out) {
    Vector grouped(layer.grouped().size()), pointwise(layer.out * layer.representative);
    split_dense(layer, p.grouped, grouped, pointwise);
    Parameters split = p;
    split.grouped = grouped.data();
    split.pointwise = layer.groups > 1 ? pointwise.data() : nullptr;
    inference(layer, split, scale_behind, x, shortcut, activates, out);
}
}
