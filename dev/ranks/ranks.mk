# What checks ranks that mpirun starts: dev/ranks/mpi_check.cpp.
$(BUILD)/mpi_check: $(BUILD)/dev/ranks/mpi_check.o $(ENGINE) $(BUILD)/libkernels.a ; $(call link,none)
$(BUILD)/run_tests $(BUILD)/run_tests_cuda $(BUILD)/one/mpi_test: | $(BUILD)/mpi_check
# Where distributions have Open MPI's mpi.h, for the test that compares it; the program does not need it.
$(BUILD)/tests/mpi_header_test.o: FIRST += $(addprefix -isystem ,$(firstword $(wildcard /usr/lib/*/openmpi/include /usr/include/openmpi-*)))
