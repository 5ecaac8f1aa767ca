#define MRC_IMPLEMENTATION
#include "../mrc.h"
