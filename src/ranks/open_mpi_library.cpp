#include "src/ranks/open_mpi_library.h"

#include <dlfcn.h>

#include <cstdlib>

#include "src/base/check.h"

namespace tll {
namespace {

// MPICH and the libraries that share its ABI (Intel MPI, MVAPICH), whose handles are numbers.
bool mpich_is_there() {
  for (const char* file : {"libmpi.so.12", "libmpich.so.12"})
    if (void* opened = dlopen(file, RTLD_LAZY | RTLD_LOCAL)) return dlclose(opened), true;
  return false;
}

void* symbol(void* library, const char* file, const char* name) {
  void* found = dlsym(library, name);
  if (!found) fail(kExitFault, "{} has no {}: Open MPI 4 or 5 was expected; LD_LIBRARY_PATH may name its folder", file, name);
  return found;
}

}  // namespace

std::string OpenMpi::text(int error) const {
  char text[kErrorLength] = {};
  int length = 0;
  if (Error_string(error, text, &length) != kSuccess) return fmt::format("error {}", error);
  return text;
}

std::string open_mpi_version(const std::string& library_version) {
  const std::string prefix = "Open MPI v";
  if (library_version.rfind(prefix, 0) != 0)
    fail(kExitFault, "the MPI library is \"{}\", and this program needs Open MPI 4 or 5; LD_LIBRARY_PATH may name its folder",
         library_version.substr(0, library_version.find_first_of(",\n")));
  std::string version = library_version.substr(prefix.size());
  version = version.substr(0, version.find_first_of(", \n"));
  if (std::atoi(version.c_str()) < 4) fail(kExitFault, "Open MPI {} is too old: this program needs Open MPI 4 or 5", version);
  return version;
}

OpenMpi load_open_mpi(const char* file) {
  // Open MPI's plugins look for its functions among the program's.
  void* library = dlopen(file, RTLD_LAZY | RTLD_GLOBAL);
  if (!library) {
    const char* error = dlerror();
    const std::string why = error ? error : file;
    if (mpich_is_there())
      fail(kExitFault,
           "an MPI launcher started this program, which needs Open MPI 4 or 5, and only MPICH's library was found ({}): install "
           "Open MPI on every host and start with its mpirun",
           why);
    fail(kExitFault,
         "an MPI launcher started this program, but Open MPI's library was not found ({}): install it on every host (Debian: "
         "libopenmpi3), or name its folder in LD_LIBRARY_PATH",
         why);
  }
  OpenMpi mpi;
#define TLL_RESOLVE(name, ...) mpi.name = reinterpret_cast<decltype(mpi.name)>(symbol(library, file, "MPI_" #name));
  TLL_MPI_FUNCTIONS(TLL_RESOLVE)
#undef TLL_RESOLVE
  char version[OpenMpi::kVersionLength] = {};
  int length = 0;
  mpi.Get_library_version(version, &length);  // of another MPI too, and before its initialisation
  mpi.version = open_mpi_version(version);
#define TLL_RESOLVE(name, type, object) mpi.name = static_cast<type>(symbol(library, file, #object));
  TLL_MPI_HANDLES(TLL_RESOLVE)
#undef TLL_RESOLVE
  return mpi;
}

}  // namespace tll
