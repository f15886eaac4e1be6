// PConv for inference, with a norm behind it: the first channels are convolved, the others scaled and shifted.
#include "ending.h"
#include "image.h"

namespace {

struct Layer {
    Images images;
    Kernel kernel;
    long channels, convolved;  // channels: a multiple of 8
    long padded() const { return (convolved + 7) / 8 * 8; }
};

struct Parameters {
    float *kernel, *bias;  // (convolved, convolved, taps), (convolved,): with the norm
    float *scale, *shift;  // of the other channels, behind as many of nothing: (channels,)
};

// The kernel with zeros for channels that fill a vector up, (taps, convolved, padded), and so the bias.
struct Arranged {
    Vector kernel, bias;

    Arranged(const Layer &layer, const Parameters &p)
        : kernel(layer.kernel.taps() * layer.convolved * layer.padded()), bias(layer.padded()) {
        long taps = layer.kernel.taps(), depth = layer.convolved;
        for (long o = 0; o < depth; o++)
            for (long i = 0; i < depth; i++)
                for (long tap = 0; tap < taps; tap++)
                    kernel[(tap * depth + i) * layer.padded() + o] = p.kernel[(o * depth + i) * taps + tap];
        std::copy_n(p.bias, depth, bias.data());
    }
};

template <int L>
void pass_row(const Layer &layer, const Parameters &p, Pixels x, Pixels convolved, Pixels y) {
    for (long pixel = 0; pixel < layer.images.width; pixel++)
        for (long c = 0; c < layer.channels; c += L)
            store<L>(y[pixel] + c, load<L>(x[pixel] + c) * load<L>(p.scale + c) + load<L>(p.shift + c));
    copy_pixels(convolved, layer.images.width, layer.convolved, y);
}

}  // namespace

extern "C" {

// shortcut may be null.
void inference(const Layer &layer, const Parameters &p, const float *x, const float *shortcut, long activates,
               float *y) {
    const Images &images = layer.images;
    Arranged arranged(layer, p);
    Ending ending{shortcut, activates, y};
#pragma omp parallel num_threads(images.threads)
    {
        Padded image(images, layer.kernel, layer.convolved);
        Vector room(images.width * layer.padded());
        Pixels convolved(room.data(), layer.padded());
#pragma omp for schedule(static)
        for (long n = 0; n < images.number; n++) {
            Pixels from(x + n * images.pixels() * layer.channels, layer.channels);
            image.fill(from);
            for (long r = 0; r < images.height; r++) {
                Pixels to(y + (n * images.height + r) * images.width * layer.channels, layer.channels);
                convolve_row<Start::bias>(image, r, arranged.kernel.data(), layer.padded(), arranged.bias.data(),
                                          convolved);
                by_lanes(layer.channels, [&](auto lanes) {
                    pass_row<decltype(lanes)::value>(layer, p, from.from(r * images.width), convolved, to);
                });
                ending.finish(to, images.width);
            }
        }
    }
}
}
