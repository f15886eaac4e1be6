// GhostConv's primary convolution, (in) → (half), and its gradients, in two forms: tap by tap, and Winograd's.
#pragma once
#include "ending.h"
#include "pooling.h"
#include "winograd.h"

struct Layer {
    Images images;  // of the output
    Stride stride;
    Kernel kernel;  // of the primary convolution
    long cheap_size, in, half;

    long out() const { return 2 * half; }
    Images input() const {
        return {images.threads, images.number, images.height * stride.rows, images.width * stride.columns};
    }
    Kernel cheap() const { return {cheap_size, cheap_size, 1, 1}; }
    long place(long tap, long i, long o) const { return (o * in + i) * kernel.taps() + tap; }
};

// The pixels of x in one place of each stride, and what of the output's gradient reaches them.
struct Phase {
    long row, column;
    std::vector<long> at;  // of each tap that reaches them, in a padded image of the gradient
    Vector weights;        // (those taps, half, in)

    Phase(const Layer &layer, const float *p, long row, long column) : row(row), column(column) {
        const Kernel &kernel = layer.kernel;
        long line = layer.images.width + 2 * kernel.left();
        for (long tap = 0; tap < kernel.taps(); tap++) {
            long up = row + kernel.above() - tap / kernel.columns * kernel.row_dilation;
            long left = column + kernel.left() - tap % kernel.columns * kernel.column_dilation;
            if (up % layer.stride.rows || left % layer.stride.columns) continue;
            at.push_back((up / layer.stride.rows * line + left / layer.stride.columns) * layer.half);
            for (long o = 0; o < layer.half; o++)
                for (long i = 0; i < layer.in; i++) weights.push_back(p[layer.place(tap, i, o)]);
        }
    }

    void convolve_back(const Layer &layer, const Padded &by_intrinsic, Pixels by_x) const {
        const Stride &stride = layer.stride;
        long line = layer.images.width * stride.columns;
        for (long r = 0; r < layer.images.height; r++) {
            Pixels to(by_x[(r * stride.rows + row) * line + column], layer.in * stride.columns);
            convolve(by_intrinsic.row(r), {(long)at.size(), at.data()}, layer.images.width, layer.half, weights.data(),
                     layer.in, nullptr, to);
        }
    }
};

// Any kernel at any stride.
class Direct {
  public:
    Direct(const Layer &layer, const float *p, const float *bias, bool wants_x)
        : layer(layer), bias(bias), u(weights()) {
        for_weights([&](long here, long there) { u[here] = p[there]; });
        for (long at = 0; wants_x && at < layer.stride.pixels(); at++)
            phases.emplace_back(layer, p, at / layer.stride.columns, at % layer.stride.columns);
    }

    // What a thread needs for one image.
    struct Room {
        Padded x;
        explicit Room(const Direct &of) : x(of.layer.input(), of.layer.kernel, of.layer.in) {}
        void read(const Layer &layer, const float *image) const { x.fill({image, layer.in}); }
    };

    long weights() const { return layer.kernel.taps() * layer.in * layer.half; }

    void forward(Room &room, const Padded &intrinsic) const {
        for (long r = 0; r < layer.images.height; r++)
            convolve<Start::bias>(tap(room, r, 0), room.x.runs(), layer.images.width, room.x.joined * layer.in,
                                  u.data(), layer.half, bias, intrinsic.row(r));
    }

    // by_u += the gradient of the weights in the order of the passes; by_x, of an image, may be null.
    void back(Room &room, const Padded &by_intrinsic, float *by_u, float *by_x) const {
        Lines lines{layer.images.height, layer.stride.rows * room.x.line, by_intrinsic.line};
        for (long t = 0; t < layer.kernel.taps(); t += room.x.joined)
            add_products(tap(room, 0, t), room.x.joined * layer.in, by_intrinsic.row(0), layer.half, layer.images.width,
                         {by_u + t * layer.in * layer.half, layer.half}, lines);
        for (const Phase &phase : phases) phase.convolve_back(layer, by_intrinsic, {by_x, layer.in});
    }

    void store_gradient(const float *by_u, float *by) const {
        for_weights([&](long here, long there) { by[there] = by_u[here]; });
    }

  private:
    template <class Function>
    void for_weights(Function function) const {
        for (long tap = 0, here = 0; tap < layer.kernel.taps(); tap++)
            for (long i = 0; i < layer.in; i++)
                for (long o = 0; o < layer.half; o++) function(here++, layer.place(tap, i, o));
    }

    // What a tap reads for a row of the output.
    Pixels tap(const Room &room, long r, long tap) const {
        return {room.x.tap(r * layer.stride.rows, tap).data, layer.in * layer.stride.columns};
    }

    const Layer &layer;
    const float *bias;
    Vector u;  // (taps, in, half)
    std::vector<Phase> phases;
};

// Kernels three columns wide at stride 1.
class ByWinograd {
  public:
    static bool fits(const Layer &layer) {
        return layer.stride.pixels() == 1 && Winograd::fits(layer.images, layer.kernel, layer.in);
    }

    ByWinograd(const Layer &layer, const float *p, const float *bias, bool wants_x)
        : layer(layer), bias(bias), forth{layer.images, layer.kernel, layer.in, layer.half},
          opposite{layer.images, layer.kernel, layer.half, layer.in} {
        u = transformed_kernel(
            forth, [&](long row, long column, long i, long o) { return p[layer.place(3 * row + column, i, o)]; });
        if (wants_x)
            turned = transformed_kernel(opposite, [&](long row, long column, long o, long i) {
                return p[layer.place(layer.kernel.taps() - 1 - (3 * row + column), i, o)];
            });
    }

    struct Room {
        Transformed x, by_intrinsic;
        Vector products;
        explicit Room(const ByWinograd &of)
            : x(of.forth), by_intrinsic(of.opposite),
              products(std::max(of.forth.band_floats(), of.opposite.band_floats())) {}
        void read(const Layer &layer, const float *image) const {
            x.fill([&](long r) { return Pixels(image + r * layer.images.width * layer.in, layer.in); });
        }
    };

    long weights() const { return forth.weights(); }

    void forward(Room &room, const Padded &intrinsic) const {
        convolve(forth, room.x, u.data(), bias, room.products, [&](long r) { return intrinsic.row(r); });
    }

    void back(Room &room, const Padded &by_intrinsic, float *by_u, float *by_x) const {
        auto row = [&](long r) { return by_intrinsic.row(r); };
        add_kernel_gradient(forth, room.x, row, room.products, by_u);
        if (!by_x) return;
        room.by_intrinsic.fill(row);
        convolve(opposite, room.by_intrinsic, turned.data(), nullptr, room.products,
                 [&](long r) { return Pixels(by_x + r * layer.images.width * layer.in, layer.in); });
    }

    void store_gradient(const float *by_u, float *by) const {
        transform_gradient_back(forth, by_u, [&](long row, long column, long i, long o, float value) {
            by[layer.place(3 * row + column, i, o)] += value;
        });
    }

  private:
    const Layer &layer;
    const float *bias;
    const Winograd forth, opposite;  // from x, and from the gradient to that of x
    Vector u, turned;
};
