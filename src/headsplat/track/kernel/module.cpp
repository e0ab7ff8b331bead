// The Python face of the matting. Arguments are checked in headsplat/track/closed_form.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "matting.h"

namespace nb = nanobind;
using namespace headsplat;

namespace {

template <class T>
using In = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;
template <class T>
using InOut = nb::ndarray<T, nb::c_contig, nb::device::cpu>;

}  // namespace

NB_MODULE(_matting, m) {
    m.def("solve", [](In<float> image, InOut<double> trimap, double epsilon, double tolerance, int most_steps) {
        nb::gil_scoped_release free;
        const Band band =
            matting_band(image.data(), trimap.data(), (int)trimap.shape(0), (int)trimap.shape(1), epsilon);
        std::vector<double> solution(band.size());
        if (!solve_band(band, tolerance, most_steps, solution.data())) return false;
        for (int i = 0; i < band.size(); ++i) trimap.data()[band.pixel[i]] = solution[i];
        return true;
    });
    m.def("own_colours", [](In<float> image, In<float> alpha, InOut<float> out) {
        nb::gil_scoped_release free;
        own_colours(image.data(), alpha.data(), (int)alpha.shape(0), (int)alpha.shape(1), out.data());
    });
}
