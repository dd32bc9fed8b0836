/* How every call of the emulated API begins. */
#pragma once

#include <mutex>

#include "report.h"

namespace emulated
{

/* Host threads take turns: there is one emulation, however many devices it shows. */
extern std::recursive_mutex api_lock;

/* What the call must return at once: cudaErrorNoDevice, or the failure that EPMOE_EMULATED_FAIL=
 * call:n or call:n:error (the n-th call of that name, from 1; CUDA's number of the error) asks for.
 */
cudaError_t enter(const char *call);

/* Whether EPMOE_EMULATED_FAIL asks for this call's failure; counts the call. */
bool must_fail(const char *call);

/* The error with which this launch must be refused, where EPMOE_EMULATED_FAIL names the kernel. */
cudaError_t must_refuse(const char *kernel);

/* Whether EPMOE_EMULATED_LOSE asks that this call say it has begun, and do nothing. */
bool must_lose(const char *call);

/* A line for EPMOE_EMULATED_TRACE: the device, and the call or kernel. */
void note_call(const char *call);

/* Refuse a call that must not happen while any stream of this host thread is being captured;
 * the capture is lost. */
cudaError_t refuse_in_capture(const char *call);

#define API_CALL()                                                                                 \
    std::lock_guard<std::recursive_mutex> hold(api_lock);                                          \
    if (cudaError_t refused = enter(__func__))                                                     \
        return failed(refused);

int current_device();
size_t device_memory_bytes(); // of each device
int shared_memory_optin();    // the most dynamic shared memory that a kernel can ask for
int compute_capability();     // 80 or 90

} // namespace emulated
