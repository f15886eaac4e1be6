// SCConv as one operator, and its folded form.
#include "scconv_back.h"

namespace {

// The parameters or their gradients, each as its module has it.
struct Parameters {
    float *norm_weight, *norm_bias, *squeeze1, *squeeze2;  // (in,), (in,), (up, upper), (low, lower)
    float *conv, *bias, *pointwise1, *pointwise2;  // (out, up/groups, taps), (out,), (out, up), (out − low, low)
};

// What the backward pass needs of the forward pass besides x.
struct Kept {
    float *sums;  // (N·(2·norm_groups + out),)
};

// Those of the folded form: γ/Σγ is in the norm, and a norm behind the layer in the last convolutions.
struct FoldedParameters {
    float *norm_weight, *norm_bias, *squeeze1, *squeeze2, *conv, *bias1;
    float *pointwise1, *pointwise2, *bias2, *steepness;  // (out, up), (out, low), (out,), (out,)
};

// The weights in the order of the passes.
struct Arranged {
    Vector norm_weight, norm_bias, squeeze, kernel, pointwise, bias1, bias2, steepness;

    Arranged(const Layer &layer, const Parameters &p)
        : norm_weight(layer.in), norm_bias(layer.in), squeeze(layer.in * layer.squeezed()),
          kernel(layer.rows() * layer.out), pointwise(layer.squeezed() * layer.out), bias1(p.bias, p.bias + layer.out),
          bias2(layer.out), steepness(layer.out, 1.f) {
        double sum = 0;
        for (long c = 0; c < layer.in; c++) sum += p.norm_weight[c];
        for (long c = 0; c < layer.in; c++) {
            norm_weight[c] = p.norm_weight[c] * (p.norm_weight[c] / sum);
            norm_bias[c] = p.norm_bias[c] * (p.norm_weight[c] / sum);
        }
        arrange(layer, p.squeeze1, p.squeeze2, p.conv, p.pointwise1);
        for_low(layer, layer.out - layer.low, [&](long here, long there) { pointwise[here] = p.pointwise2[there]; });
        for (long k = 0; k < layer.low; k++) pointwise[(layer.up + k) * layer.out + layer.out - layer.low + k] = 1;
    }

    Arranged(const Layer &layer, const FoldedParameters &p)
        : norm_weight(p.norm_weight, p.norm_weight + layer.in), norm_bias(p.norm_bias, p.norm_bias + layer.in),
          squeeze(layer.in * layer.squeezed()), kernel(layer.rows() * layer.out),
          pointwise(layer.squeezed() * layer.out), bias1(p.bias1, p.bias1 + layer.out),
          bias2(p.bias2, p.bias2 + layer.out), steepness(p.steepness, p.steepness + layer.out) {
        arrange(layer, p.squeeze1, p.squeeze2, p.conv, p.pointwise1);
        for_low(layer, layer.out, [&](long here, long there) { pointwise[here] = p.pointwise2[there]; });
    }

    void arrange(const Layer &layer, const float *squeeze1, const float *squeeze2, const float *conv,
                 const float *pointwise1) {
        for_squeeze1(layer, [&](long here, long there) { squeeze[here] = squeeze1[there]; });
        for_squeeze2(layer, [&](long here, long there) { squeeze[here] = squeeze2[there]; });
        for_kernel(layer, [&](long here, long there) { kernel[here] = conv[there]; });
        for_up(layer, [&](long here, long there) { pointwise[here] = pointwise1[there]; });
    }

    // Each calls with the place of a weight here and in the parameter.
    template <class Function>
    static void for_squeeze1(const Layer &layer, Function function) {
        for (long k = 0; k < layer.up; k++)
            for (long i = 0; i < layer.upper; i++) function(i * layer.squeezed() + k, k * layer.upper + i);
    }

    template <class Function>
    static void for_squeeze2(const Layer &layer, Function function) {
        for (long k = 0; k < layer.low; k++)
            for (long i = layer.upper; i < layer.in; i++)
                function(i * layer.squeezed() + layer.up + k, k * (layer.in - layer.upper) + i - layer.upper);
    }

    template <class Function>
    static void for_kernel(const Layer &layer, Function function) {
        long taps = layer.kernel.taps(), depth = layer.up / layer.conv_groups, width = layer.out / layer.conv_groups;
        for (long c = 0; c < layer.out; c++)
            for (long k = 0; k < depth; k++)
                for (long tap = 0; tap < taps; tap++)
                    function((tap * layer.depth() + (c / width * depth + k) % layer.depth()) * layer.out + c,
                             (c * depth + k) * taps + tap);
    }

    template <class Function>
    static void for_up(const Layer &layer, Function function) {
        for (long c = 0; c < layer.out; c++)
            for (long k = 0; k < layer.up; k++) function(k * layer.out + c, c * layer.up + k);
    }

    template <class Function>
    static void for_low(const Layer &layer, long made, Function function) {
        for (long c = 0; c < made; c++)
            for (long k = 0; k < layer.low; k++) function((layer.up + k) * layer.out + c, c * layer.low + k);
    }

    Weights weights() const {
        return {norm_weight.data(), norm_bias.data(), squeeze.data(), kernel.data(),
                pointwise.data(),   bias1.data(),     bias2.data(),   steepness.data()};
    }
};

// The gradients of the weights, summed over the chunks.
struct ByWeights {
    Vector norm_weight, norm_bias, squeeze, kernel, pointwise, bias;

    explicit ByWeights(const Layer &layer)
        : norm_weight(CHUNKS * layer.in), norm_bias(CHUNKS * layer.in), squeeze(CHUNKS * layer.in * layer.squeezed()),
          kernel(CHUNKS * layer.rows() * layer.out), pointwise(CHUNKS * layer.squeezed() * layer.out),
          bias(CHUNKS * layer.out) {}

    Found found(float *by_x) {
        return {by_x,          norm_weight.data(), norm_bias.data(), squeeze.data(),
                kernel.data(), pointwise.data(),   bias.data()};
    }

    void sum() {
        for (Vector *chunks : {&norm_weight, &norm_bias, &squeeze, &kernel, &pointwise, &bias}) sum_chunks(*chunks);
    }
};

// From the gradients of γ·γ/Σγ and β·γ/Σγ to those of γ and β.
void back_through_shares(const Layer &layer, const Parameters &p, const ByWeights &by_weights, const Parameters &by) {
    double sum = 0, by_sum = 0;
    for (long c = 0; c < layer.in; c++) sum += p.norm_weight[c];
    auto by_product = [&](long c) {  // of 1/Σγ
        return p.norm_weight[c] * ((double)by_weights.norm_weight[c] * p.norm_weight[c] +
                                   (double)by_weights.norm_bias[c] * p.norm_bias[c]);
    };
    for (long c = 0; c < layer.in; c++) by_sum -= by_product(c) / (sum * sum);
    for (long c = 0; c < layer.in; c++) {
        double by_both = 2. * by_weights.norm_weight[c] * p.norm_weight[c];
        by_both += (double)by_weights.norm_bias[c] * p.norm_bias[c];
        by.norm_weight[c] = by_both / sum + by_sum;
        by.norm_bias[c] = by_weights.norm_bias[c] * p.norm_weight[c] / sum;
    }
}

}  // namespace

extern "C" {

void forward(const Layer &layer, const Parameters &p, const float *x, const Kept &kept, float *y) {
    Arranged arranged(layer, p);
    forward_images(layer, arranged.weights(), x, Saved(layer, kept.sums), {}, y);
}

void backward(const Layer &layer, const Parameters &p, const float *x, const Kept &kept, const float *grad, float *by_x,
              const Parameters &by) {
    Arranged arranged(layer, p);
    ByWeights by_weights(layer);
    Given given{x, grad, Saved(layer, kept.sums), arranged.weights()};
    back_images(layer, given, Turned(layer, given.weights), by_weights.found(by_x));
    by_weights.sum();
    back_through_shares(layer, p, by_weights, by);
    std::copy_n(by_weights.bias.begin(), layer.out, by.bias);
    Arranged::for_squeeze1(layer, [&](long here, long there) { by.squeeze1[there] = by_weights.squeeze[here]; });
    Arranged::for_squeeze2(layer, [&](long here, long there) { by.squeeze2[there] = by_weights.squeeze[here]; });
    Arranged::for_kernel(layer, [&](long here, long there) { by.conv[there] = by_weights.kernel[here]; });
    Arranged::for_up(layer, [&](long here, long there) { by.pointwise1[there] = by_weights.pointwise[here]; });
    Arranged::for_low(layer, layer.out - layer.low,
                      [&](long here, long there) { by.pointwise2[there] = by_weights.pointwise[here]; });
}

// shortcut may be null.
void folded(const Layer &layer, const FoldedParameters &p, const float *x, const float *shortcut, long activates,
            float *y) {
    Arranged arranged(layer, p);
    Vector room(layer.images.number * (2 * layer.norm_groups + layer.out));
    forward_images(layer, arranged.weights(), x, Saved(layer, room.data()), {shortcut, activates, y}, y);
}
}
