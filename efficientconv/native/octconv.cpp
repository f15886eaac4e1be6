// OctConv as one operator, at stride 1; what a stride has pooled is of high frequency.
#include "norm.h"
#include "octconv_passes.h"

namespace {

// The parameters or their gradients, as the module has them.
struct Parameters {
    float *weight, *bias;  // (out, in, rows, columns), (out,)
};

// The backward pass needs nothing of the forward pass besides x.
struct Kept {};

// The gradients of the weights, for each chunk; of the kernels in the order of the products.
struct ByWeights {
    Kernels kernels;
    Vector bias;

    ByWeights(const Layer &layer, const Paths &paths) : bias(CHUNKS * layer.out()) {
        for (size_t i = 0; i < paths.size(); i++) kernels[i].resize(CHUNKS * paths[i].ahead.weights());
    }

    void sum_into(const Paths &paths, const Parameters &by) {
        sum_chunks(bias);
        std::copy_n(bias.begin(), bias.size() / CHUNKS, by.bias);
        for (size_t i = 0; i < paths.size(); i++) {
            sum_chunks(kernels[i]);
            transform_gradient_back(paths[i].ahead, kernels[i].data(),
                                    [&](long row, long column, long k, long o, float by_weight) {
                                        by.weight[paths[i].at(row, column, k, o)] = by_weight;
                                    });
        }
    }
};

// What a thread needs besides for the gradients of one image, at half the resolution.
struct BackRoom : Room {
    std::array<PathRoom, 3> back;
    Vector by_halved_data, by_low_data;
    Pixels by_halved, by_low;  // of x, from the low-frequency outputs; of its low frequencies, from the high ones

    BackRoom(const Layer &layer, const Paths &paths)
        : Room(layer, paths),
          back{PathRoom(paths[HIGH].back), PathRoom(paths[LOW_TO_HIGH].back), PathRoom(paths[TO_LOW].back)},
          by_halved_data(layer.half().pixels() * layer.in()), by_low_data(layer.half().pixels() * layer.low_in),
          by_halved(by_halved_data.data(), layer.in()), by_low(by_low_data.data(), layer.low_in) {}
};

// From the gradient of a path's output to that of its kernel, which is added to, and of its input.
void back_path(const Path &path, Pixels x, Pixels by_y, const Vector &turned, PathRoom &ahead, PathRoom &back,
               float *by_kernel, Pixels by_x) {
    long width = path.ahead.images.width;
    ahead.image.fill([&](long r) { return x.from(r * width); });
    add_kernel_gradient(
        path.ahead, ahead.image, [&](long r) { return by_y.from(r * width); }, ahead.products, by_kernel);
    convolve_path(path.back, by_y, turned, nullptr, back, by_x);
}

void back_image(const Layer &layer, const Weights &weights, const Kernels &turned, Pixels x, Pixels grad, Pixels by_x,
                long chunk, BackRoom &room, ByWeights &by) {
    const Images half = layer.half();
    auto back = [&](int i, Pixels from, Pixels by_y, Pixels to) {
        const Path &path = weights.paths[i];
        if (path.empty()) return;
        back_path(path, from.from(0, path.from), by_y.from(0, path.to), turned[i], room.ahead[i], room.back[i],
                  &by.kernels[i][chunk * path.ahead.weights()], to);
    };
    sum_windows(half, x, layer.in(), 0.25f, room.halved);
    sum_windows(half, grad, layer.out(), 1, room.y);
    by_lanes(layer.out(), [&](auto lanes) {
        add_sum<decltype(lanes)::value>(room.y, half.pixels(), layer.out(), &by.bias[chunk * layer.out()]);
    });
    back(HIGH, x, grad, by_x);
    back(LOW_TO_HIGH, room.halved, room.y, room.by_low);
    back(TO_LOW, room.halved, room.y, room.by_halved);
    Pixels low = by_x.from(0, layer.high_in);
    repeat<true>(half, room.by_halved, layer.high_in, 0.25f, by_x);
    repeat<false>(half, room.by_halved.from(0, layer.high_in), layer.low_in, 0.25f, low);
    repeat<true>(half, room.by_low, layer.low_in, 0.25f, low);
}

}  // namespace

extern "C" {

// shortcut may be null.
void inference(const Layer &layer, const Parameters &p, const float *x, const float *shortcut, long activates,
               float *y) {
    Weights weights(layer, p.weight, p.bias);
    Ending ending{shortcut, activates, y};
    long pixels = layer.images.pixels();
#pragma omp parallel num_threads(layer.images.threads)
    {
        Room room(layer, weights.paths);
#pragma omp for schedule(static)
        for (long n = 0; n < layer.images.number; n++) {
            Pixels to(y + n * pixels * layer.out(), layer.out());
            forward_image(layer, weights, {x + n * pixels * layer.in(), layer.in()}, to, room);
            ending.finish(to, pixels);
        }
    }
}

void forward(const Layer &layer, const Parameters &p, const float *x, const Kept &, float *y) {
    inference(layer, p, x, nullptr, false, y);
}

void backward(const Layer &layer, const Parameters &p, const float *x, const Kept &, const float *grad, float *by_x,
              const Parameters &by) {
    Weights weights(layer, p.weight, p.bias);
    Kernels turned = turned_kernels(weights.paths, p.weight);
    ByWeights by_weights(layer, weights.paths);
    long in = layer.in(), out = layer.out(), pixels = layer.images.pixels();
#pragma omp parallel num_threads(layer.images.threads)
    {
        BackRoom room(layer, weights.paths);
#pragma omp for schedule(static)
        for (long chunk = 0; chunk < CHUNKS; chunk++)
            for_images_of(chunk, layer.images, [&](long n) {
                back_image(layer, weights, turned, {x + n * pixels * in, in}, {grad + n * pixels * out, out},
                           {by_x + n * pixels * in, in}, chunk, room, by_weights);
            });
    }
    by_weights.sum_into(weights.paths, by);
}
}
