// The kernels of all types and instruction sets, for tests that include kernels.h in their place.
#define MRC_STATIC
#define MRC__FILLDEF
#define MRC_IMPLEMENTATION
#include "../../mrc.h"
