// SCConv as one operator, and its folded form.
#include "scconv_back.h"

namespace {

// The parameters or their gradients, each as its module has it.
struct Parameters {
    float *norm_weight, *norm_bias, *squeeze1, *squeeze2;  // (in,), (in,), (up, upper), (low, lower)
    float *conv, *bias, *pointwise1, *pointwise2;  // (out, up/groups, taps), (out,), (out, up), (out − low, low)
};

// Those of the folded form: γ/Σγ is in the norm, and nothing is squeezed.
struct FoldedParameters {
    float *norm_weight, *norm_bias, *first, *bias1, *second, *bias2, *steepness;  // (out, up, taps), (out, low)
};

// (rows, columns), transposed, with columns of zeros.
Vector turned_and_widened(const float *matrix, long rows, long columns) {
    Vector result(columns * whole(rows));
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < columns; c++) result[c * whole(rows) + r] = matrix[r * columns + c];
    return result;
}

// The weights in the order of the passes.
struct Arranged {
    Vector norm_weight, norm_bias, squeeze1, squeeze2, kernel, second, bias1, bias2, steepness;

    Arranged(const Layer &layer, const Parameters &p)
        : norm_weight(layer.in), norm_bias(layer.in), squeeze1(turned_and_widened(p.squeeze1, layer.up, layer.upper)),
          squeeze2(turned_and_widened(p.squeeze2, layer.low, layer.lower())), kernel(layer.taps() * layer.out),
          second(layer.low * layer.out), bias1(p.bias, p.bias + layer.out), bias2(layer.out), steepness(layer.out, 1.f) {
        double sum = 0;
        for (long c = 0; c < layer.in; c++) sum += p.norm_weight[c];
        for (long c = 0; c < layer.in; c++) {
            norm_weight[c] = p.norm_weight[c] * (p.norm_weight[c] / sum);
            norm_bias[c] = p.norm_bias[c] * (p.norm_weight[c] / sum);
        }
        for_kernel(layer, [&](long here, long there) { kernel[here] = p.conv[there]; });
        for_pointwise1(layer, [&](long here, long there) { kernel[here] += p.pointwise1[there]; });
        for_pointwise2(layer, [&](long here, long there) { second[here] = p.pointwise2[there]; });
        for (long k = 0; k < layer.low; k++) second[k * layer.out + layer.out - layer.low + k] = 1;
    }

    Arranged(const Layer &layer, const FoldedParameters &p)
        : norm_weight(p.norm_weight, p.norm_weight + layer.in), norm_bias(p.norm_bias, p.norm_bias + layer.in),
          kernel(layer.taps() * layer.out), second(transposed(p.second, layer.out, layer.low)),
          bias1(p.bias1, p.bias1 + layer.out), bias2(p.bias2, p.bias2 + layer.out),
          steepness(p.steepness, p.steepness + layer.out) {
        for_kernel(layer, [&](long here, long there) { kernel[here] = p.first[there]; });
    }

    // Each calls with the place of a weight here and in the parameter.
    template <class Function>
    static void for_kernel(const Layer &layer, Function function) {
        long taps = layer.kernel.taps(), depth = layer.up / layer.conv_groups, width = layer.out / layer.conv_groups;
        for (long c = 0; c < layer.out; c++)
            for (long k = 0; k < depth; k++)
                for (long tap = 0; tap < taps; tap++)
                    function((tap * layer.up + c / width * depth + k) * layer.out + c, (c * depth + k) * taps + tap);
    }

    template <class Function>
    static void for_pointwise1(const Layer &layer, Function function) {
        long centre = layer.kernel.taps() / 2 * layer.up;
        for (long c = 0; c < layer.out; c++)
            for (long k = 0; k < layer.up; k++) function((centre + k) * layer.out + c, c * layer.up + k);
    }

    template <class Function>
    static void for_pointwise2(const Layer &layer, Function function) {
        for (long c = 0; c < layer.out - layer.low; c++)
            for (long k = 0; k < layer.low; k++) function(k * layer.out + c, c * layer.low + k);
    }

    Weights weights() const {
        bool squeezes = !squeeze1.empty();
        return {norm_weight.data(), norm_bias.data(),  squeezes ? squeeze1.data() : nullptr,
                squeezes ? squeeze2.data() : nullptr,  kernel.data(), second.data(), bias1.data(), bias2.data(),
                steepness.data()};
    }
};

// The gradients of the weights, summed over the chunks.
struct ByWeights {
    Vector norm_weight, norm_bias, squeeze1, squeeze2, kernel, second, bias;

    explicit ByWeights(const Layer &layer)
        : norm_weight(CHUNKS * layer.in), norm_bias(CHUNKS * layer.in),
          squeeze1(CHUNKS * layer.upper * whole(layer.up)), squeeze2(CHUNKS * layer.lower() * whole(layer.low)),
          kernel(CHUNKS * layer.taps() * layer.out), second(CHUNKS * layer.low * layer.out), bias(CHUNKS * layer.out) {}

    Found found(float *by_x) {
        return {by_x,          norm_weight.data(), norm_bias.data(), squeeze1.data(), squeeze2.data(),
                kernel.data(), second.data(),      bias.data()};
    }

    void sum() {
        for (Vector *chunks : {&norm_weight, &norm_bias, &squeeze1, &squeeze2, &kernel, &second, &bias})
            sum_chunks(*chunks);
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
        double by_weight = 2. * by_weights.norm_weight[c] * p.norm_weight[c] + (double)by_weights.norm_bias[c] * p.norm_bias[c];
        by.norm_weight[c] = by_weight / sum + by_sum;
        by.norm_bias[c] = by_weights.norm_bias[c] * p.norm_weight[c] / sum;
    }
}

void copy_squeeze(const Vector &from, long squeezed, long width, float *to) {
    for (long k = 0; k < squeezed; k++)
        for (long i = 0; i < width; i++) to[k * width + i] = from[i * whole(squeezed) + k];
}

}  // namespace

extern "C" {

void forward(const Layer &layer, const Parameters &p, const float *x, const Saved &saved, float *y) {
    Arranged arranged(layer, p);
    forward_images(layer, arranged.weights(), x, saved, y);
}

void backward(const Layer &layer, const Parameters &p, const float *x, const Saved &saved, const float *grad,
              float *by_x, const Parameters &by) {
    Arranged arranged(layer, p);
    ByWeights by_weights(layer);
    back_images(layer, {x, grad, saved, arranged.weights()}, Turned(layer, arranged.weights(), p.squeeze1, p.squeeze2),
                by_weights.found(by_x));
    by_weights.sum();
    back_through_shares(layer, p, by_weights, by);
    copy_squeeze(by_weights.squeeze1, layer.up, layer.upper, by.squeeze1);
    copy_squeeze(by_weights.squeeze2, layer.low, layer.lower(), by.squeeze2);
    std::copy_n(by_weights.bias.begin(), layer.out, by.bias);
    Arranged::for_kernel(layer, [&](long here, long there) { by.conv[there] = by_weights.kernel[here]; });
    Arranged::for_pointwise1(layer, [&](long here, long there) { by.pointwise1[there] = by_weights.kernel[here]; });
    Arranged::for_pointwise2(layer, [&](long here, long there) { by.pointwise2[there] = by_weights.second[here]; });
}

void folded(const Layer &layer, const FoldedParameters &p, const float *x, const Saved &room, float *y) {
    Arranged arranged(layer, p);
    forward_images(layer, arranged.weights(), x, room, y);
}
}
