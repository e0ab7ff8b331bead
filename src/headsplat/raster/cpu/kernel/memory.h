// Buffers that are handed back and used again: fresh pages for every frame would cost a millisecond.
#pragma once

#include <cstddef>

namespace headsplat {

void* take_memory(size_t bytes);            // 64-byte aligned, contents undefined
void give_memory(void* memory) noexcept;    // accepts null

template <class T>
class Buffer {
   public:
    Buffer() = default;
    explicit Buffer(size_t count) : data_(static_cast<T*>(take_memory(count * sizeof(T)))), count_(count) {}
    Buffer(Buffer&& other) noexcept : data_(other.data_), count_(other.count_) { other.data_ = nullptr; }
    Buffer& operator=(Buffer&& other) noexcept {
        T* const mine = data_;
        data_ = other.data_;
        count_ = other.count_;
        other.data_ = nullptr;
        give_memory(mine);
        return *this;
    }
    ~Buffer() { give_memory(data_); }
    T* data() { return data_; }
    const T* data() const { return data_; }
    size_t size() const { return count_; }
    T& operator[](size_t i) { return data_[i]; }
    const T& operator[](size_t i) const { return data_[i]; }
    T* release() {
        T* const mine = data_;
        data_ = nullptr;
        return mine;
    }

   private:
    T* data_ = nullptr;
    size_t count_ = 0;
};

}  // namespace headsplat
