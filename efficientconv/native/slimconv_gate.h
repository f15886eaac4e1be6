// SlimConv's gate: of the means of an image's channels, with a batch norm over the images.
#pragma once
#include "slimconv_passes.h"

// The parameters or their gradients, each as its module has it.
struct Parameters {
    float *squeeze, *gate_weight, *gate_bias, *excite, *excite_bias;  // (hidden, in), (hidden,), …, (in, hidden), (in,)
    float *conv1, *weight1, *bias1, *narrow;                          // (first, first, taps), …, (second, first)
    float *weight2, *bias2, *conv2, *weight3, *bias3, *restore;       // (second, second, taps), …, (out, both)
};

// What the backward pass needs of the forward pass besides x.
struct Saved {
    float *means, *hidden, *gates;                                     // (N, in), (N, hidden), (N, in)
    float *y1, *m, *y2;                                                // (N, H, W, first), (N, H, W, second) twice
    float *mean0, *variance0;                                          // of the gate's hidden values
    float *mean1, *variance1, *mean2, *variance2, *mean3, *variance3;  // of y₁, m and y₂
};

// The means of x, and what the first convolution of the gate makes of them.
inline void find_hidden(const Layer &layer, const Parameters &p, const float *x, float *means_of, float *hidden) {
    by_lanes(layer.in, [&](auto lanes) {
#pragma omp parallel for schedule(static) num_threads(layer.images.threads)
        for (long n = 0; n < layer.images.number; n++)
            means<decltype(lanes)::value>(image_of(layer, x, layer.in, n), layer.images.pixels(), layer.in,
                                          means_of + n * layer.in);
    });
    for (long n = 0; n < layer.images.number; n++)
        for (long h = 0; h < layer.hidden; h++) {
            double sum = 0;
            for (long c = 0; c < layer.in; c++) sum += (double)p.squeeze[h * layer.in + c] * means_of[n * layer.in + c];
            hidden[n * layer.hidden + h] = sum;
        }
}

inline Statistics statistics_of_hidden(const Layer &layer, const float *hidden) {
    Statistics result(layer.hidden);
    long number = layer.images.number;
    for (long h = 0; h < layer.hidden; h++) {
        double sum = 0, squares = 0;
        for (long n = 0; n < number; n++) sum += hidden[n * layer.hidden + h];
        for (long n = 0; n < number; n++) {
            double difference = hidden[n * layer.hidden + h] - sum / number;
            squares += difference * difference;
        }
        result.mean[h] = sum / number;
        result.variance[h] = squares / number;
    }
    return result;
}

inline void find_gates(const Layer &layer, const Parameters &p, const float *hidden, const Norm &norm, float *gates) {
    for (long n = 0; n < layer.images.number; n++)
        for (long c = 0; c < layer.in; c++) {
            float sum = p.excite_bias[c];
            for (long h = 0; h < layer.hidden; h++) {
                float value = norm.scale[h] * hidden[n * layer.hidden + h] + norm.shift[h];
                sum += p.excite[c * layer.hidden + h] * (value > 0 ? value : 0);
            }
            gates[n * layer.in + c] = sigmoid(sum);
        }
}

// From the gradients of the gates, (N, in), to those of the means of x.
inline Vector back_through_gates(const Layer &layer, const Parameters &p, const Saved &saved, const Vector &by_gates,
                                 const Parameters &by) {
    long number = layer.images.number, hidden = layer.hidden;
    Statistics of(hidden, saved.mean0, saved.variance0);
    Norm norm(of, p.gate_weight, p.gate_bias, layer.epsilon_gate);
    Vector by_hidden(number * hidden), by_scale(hidden), by_offset(hidden), by_means(number * layer.in);
    for (long at = 0; at < number * layer.in; at++) {
        long n = at / layer.in, c = at % layer.in;
        float by_sum = by_gates[at] * saved.gates[at] * (1 - saved.gates[at]);
        by.excite_bias[c] += by_sum;
        for (long h = 0; h < hidden; h++) {
            float value = norm.scale[h] * saved.hidden[n * hidden + h] + norm.shift[h];
            if (value <= 0) continue;
            by.excite[c * hidden + h] += by_sum * value;
            by_hidden[n * hidden + h] += by_sum * p.excite[c * hidden + h];
        }
    }
    for (long at = 0; at < number * hidden; at++) {
        by_scale[at % hidden] += by_hidden[at] * (saved.hidden[at] - of.mean[at % hidden]);
        by_offset[at % hidden] += by_hidden[at];
    }
    Statistics back =
        back_through_norm(of, p.gate_weight, layer.epsilon_gate, by_scale, by_offset, by.gate_weight, by.gate_bias);
    BackNorm through(norm, of, back, number);
    for (long at = 0; at < number * hidden; at++) {
        long n = at / hidden, h = at % hidden;
        float by_value = through.scale[h] * by_hidden[at] + through.slope[h] * saved.hidden[at] + through.constant[h];
        for (long c = 0; c < layer.in; c++) {
            by.squeeze[h * layer.in + c] += by_value * saved.means[n * layer.in + c];
            by_means[n * layer.in + c] += by_value * p.squeeze[h * layer.in + c];
        }
    }
    return by_means;
}
