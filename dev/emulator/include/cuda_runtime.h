// Replaces CUDA's header of this name where .cu files are compiled for the emulator.
#pragma once

#define TLL_EMULATED 1

#include "emulator/device.h"
#include "emulator/math.h"
#include "emulator/runtime.h"
#include "emulator/types.h"
