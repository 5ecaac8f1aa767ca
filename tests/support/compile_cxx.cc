// The declarations, twice, as C++17: what backends/*.cu and C++ programs include.
#include "../../mrc.h"
#include "../../mrc.h"

static mrc_status twice(mrc_backend *be, const mrc_activation_fwd_args *a) {
    mrc_activation_fwd_args again = *a;
    return be->kernels[again.x.dtype].activation_fwd(be, &again);
}

int main() {
    mrc_backend be = {};
    be.size = sizeof be;
    be.api = MRC_BACKEND_API;
    be.kernels[MRC_DTYPE_F32].activation_bwd = nullptr;
    be.kernels[MRC_DTYPE_F32].activation_fwd = twice;
    return mrc_dtype_bytes(MRC_DTYPE_F64) == 8 ? 0 : 1;
}
