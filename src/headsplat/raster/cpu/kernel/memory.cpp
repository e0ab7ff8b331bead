#include "memory.h"

#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace headsplat {
namespace {

constexpr size_t kHeader = 64;                 // keeps the size in front of the memory
constexpr size_t kSmallest = 4096;             // smaller ones are malloc's business
constexpr size_t kKept = (size_t)256 << 20;    // bytes kept for reuse at most

struct Keep {
    std::mutex mutex;
    std::multimap<size_t, void*> free;
    size_t bytes = 0;
};
Keep& keep() {
    static Keep* kept = new Keep;  // arrays may outlive static destruction
    return *kept;
}

#if defined(__unix__) || defined(__APPLE__)
// A child must not be born while another thread holds the lock: nobody would ever open it there.
const int fork_handlers =
    pthread_atfork([] { keep().mutex.lock(); }, [] { keep().mutex.unlock(); }, [] { keep().mutex.unlock(); });
#endif

// Sizes grow by steps of an eighth, so that slightly different frames share buffers.
size_t round_up(size_t bytes) {
    size_t step = kSmallest;
    while (step * 16 <= bytes) step *= 2;
    return (bytes + step - 1) / step * step;
}

}  // namespace

void* take_memory(size_t bytes) {
    const size_t size = round_up(bytes ? bytes : 1);
    {
        Keep& k = keep();
        std::lock_guard<std::mutex> lock(k.mutex);
        auto found = k.free.find(size);
        if (found != k.free.end()) {
            void* const memory = found->second;
            k.free.erase(found);
            k.bytes -= size;
            return memory;
        }
    }
    void* raw = nullptr;
    if (posix_memalign(&raw, 64, size + kHeader) != 0) throw std::bad_alloc();
    *static_cast<size_t*>(raw) = size;
    return static_cast<char*>(raw) + kHeader;
}

void give_memory(void* memory) noexcept {
    if (!memory) return;
    void* const raw = static_cast<char*>(memory) - kHeader;
    const size_t size = *static_cast<size_t*>(raw);
    Keep& k = keep();
    {
        std::lock_guard<std::mutex> lock(k.mutex);
        if (k.bytes + size <= kKept) {
            try {
                k.free.emplace(size, memory);
                k.bytes += size;
                return;
            } catch (...) {
            }
        }
    }
    std::free(raw);
}

}  // namespace headsplat
