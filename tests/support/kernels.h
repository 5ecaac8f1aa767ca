// In the place of mrc.h's passes over kernels (MRC_SELF) for tests that are linked with kernels.c's
// object: compiling them takes ten times as long as the rest.  Included once for each pass.
void MRC__T(fill_table)(mrc_backend *be, mrc_dtype dtype);
#undef MRC__REAL
#undef MRC__T
