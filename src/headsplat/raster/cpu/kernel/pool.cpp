#include "pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>

#if defined(__linux__)
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cstdio>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace headsplat {
namespace {

constexpr int kMaxThreads = 64;
// A helper waits this long for the next loop before it sleeps: the phases of one frame follow within it.
constexpr auto kSpin = std::chrono::microseconds(60);

void pause() {
#if defined(__SSE2__)
    _mm_pause();
#else
    std::this_thread::yield();
#endif
}

int usable_processors() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
    return std::max(1u, std::thread::hardware_concurrency());
}

// How many processors other processes leave free, a running mean of the last few hundred milliseconds.
//
// Waking a helper on a busy machine is worse than not having it: the scheduler takes the caller's processor for it,
// or stops it in the middle of a task for which everybody then waits.
class SpareProcessors {
   public:
    // own: threads of this pool that may be running besides the caller.
    int count(int own) {
#if defined(__linux__)
        using Clock = std::chrono::steady_clock;
        const auto now = Clock::now();
        if (now - looked_ > std::chrono::milliseconds(5)) {
            const int running = running_tasks();
            if (running < 0) return kMaxThreads;
            const double others = std::max(0, running - 1 - own);
            const double seconds = std::chrono::duration<double>(now - looked_).count();
            others_ += (others - others_) * std::min(1.0, seconds / 0.1);
            looked_ = now;
        }
        return (int)(sysconf(_SC_NPROCESSORS_ONLN) - others_ + 0.5);
#else
        (void)own;
        return kMaxThreads;
#endif
    }

   private:
#if defined(__linux__)
    // Tasks that run or wait for a processor on the whole machine, this one included; -1 if it cannot be known.
    static int running_tasks() {
        const int file = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
        if (file < 0) return -1;
        char text[128] = {};
        const ssize_t size = read(file, text, sizeof text - 1);
        close(file);
        int running = -1;
        if (size <= 0 || std::sscanf(text, "%*f %*f %*f %d", &running) != 1) return -1;
        return running;
    }
    std::chrono::steady_clock::time_point looked_{};
    double others_ = 0;
#endif
};

struct Pool {
    SpareProcessors spare;
    std::mutex busy;  // held by the thread whose loop is running

    std::atomic<LoopBody> body{nullptr};
    std::atomic<void*> context{nullptr};
    std::atomic<int> next{0}, count{0}, limit{0};
    std::atomic<bool> open{false};   // helpers may still join the current loop
    std::atomic<int> joined{0};      // helpers inside the current loop
    std::atomic<unsigned> epoch{0};  // number of loops started

    std::mutex sleep_mutex;
    std::condition_variable wake;
    std::atomic<int> sleeping{0};
    int helpers = 0;

    void claim(int worker) {
        const LoopBody f = body.load();
        void* const c = context.load();
        const int n = count.load();
        for (int i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) f(c, i, worker);
    }

    void help(int worker) {
        unsigned seen = 0;
        for (;;) {
            const auto deadline = std::chrono::steady_clock::now() + kSpin;
            while (epoch.load() == seen && std::chrono::steady_clock::now() < deadline)
                for (int i = 0; i < 32; i++) pause();
            if (epoch.load() == seen) {
                std::unique_lock<std::mutex> lock(sleep_mutex);
                sleeping++;
                wake.wait(lock, [&] { return epoch.load() != seen; });
                sleeping--;
            }
            seen = epoch.load();
            // Announce, then look: the caller closes the loop, then waits for those announced.
            joined++;
            if (open.load() && worker < limit.load()) claim(worker);
            joined--;
        }
    }

    void run(int n, int threads, LoopBody f, void* c) {
        while (helpers < threads - 1) {
            const int worker = ++helpers;
            std::thread([this, worker] { help(worker); }).detach();
        }
        body = f;
        context = c;
        count = n;
        limit = threads;
        next = 0;
        open = true;
        epoch++;
        if (sleeping.load() > 0) {
            { std::lock_guard<std::mutex> lock(sleep_mutex); }
            wake.notify_all();
        }
        claim(0);
        open = false;
        for (int spins = 0; joined.load() > 0; spins++)
            if (spins < 2000)
                pause();
            else
                std::this_thread::yield();
    }
};

// Never destroyed: its sleeping helpers outlive the interpreter's last statement.
std::atomic<Pool*> pool{new Pool};

#if defined(__unix__) || defined(__APPLE__)
// A forked child has none of the parent's threads: it starts with a pool of its own.
const int fork_handler = pthread_atfork(nullptr, nullptr, [] { pool = new Pool; });
#endif

std::atomic<int> threads_wanted{[] {
    const char* text = std::getenv("HEADSPLAT_THREADS");
    const int wanted = text ? std::atoi(text) : 0;
    return std::clamp(wanted > 0 ? wanted : usable_processors(), 1, kMaxThreads);
}()};

}  // namespace

int default_threads() { return threads_wanted; }
void set_default_threads(int count) { threads_wanted = std::clamp(count, 1, kMaxThreads); }

void parallel_for(int count, int threads, LoopBody body, void* context) {
    threads = std::min(threads > 0 ? std::min(threads, kMaxThreads) : default_threads(), count);
    if (threads > 1) {
        Pool& shared = *pool.load();
        if (shared.busy.try_lock()) {
            std::lock_guard<std::mutex> lock(shared.busy, std::adopt_lock);
            threads = std::min(threads, shared.spare.count(shared.helpers - shared.sleeping));
            if (threads > 1) {
                shared.run(count, threads, body, context);
                return;
            }
        }
    }
    for (int i = 0; i < count; i++) body(context, i, 0);
}

}  // namespace headsplat
