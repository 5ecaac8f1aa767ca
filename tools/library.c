// The library as one object: of build/mrc, and with the bindings of build/libmrc.so.
#define MRC_IMPLEMENTATION
#include "../mrc.h"
#include "bindings.h"
