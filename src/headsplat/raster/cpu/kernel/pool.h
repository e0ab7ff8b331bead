// A small thread pool for many short parallel loops.
#pragma once

namespace headsplat {

// How many threads loops use when not told otherwise: HEADSPLAT_THREADS, else the processors this process may use.
int default_threads();
void set_default_threads(int count);

using LoopBody = void (*)(void* context, int index, int worker);

// Calls body(context, index, worker) for every index in 0..count-1 on up to `threads` threads (0 = default), on
// fewer while other work keeps the machine's processors busy.
//
// Threads claim one index at a time and the caller claims too, so a helper that the system does not schedule
// costs nothing. `worker` is 0..threads-1, never shared by two threads at once. A call made while another loop
// is running (from a second Python thread, say) runs on the caller's thread alone.
void parallel_for(int count, int threads, LoopBody body, void* context);

template <class Body>
void parallel_for(int count, int threads, Body&& body) {
    parallel_for(
        count, threads,
        [](void* context, int index, int worker) { (*static_cast<Body*>(context))(index, worker); }, &body);
}

}  // namespace headsplat
