// Memory for one thread's client: taken piece by piece, given back all at once, kept for the next one.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace fedlps {

template <class T>
class Arena {
  public:
    // Zeroed entries on a cache line of their own.
    T* take(std::int64_t size) {
        T* taken = scratch(size);
        std::fill_n(taken, size, T{0});
        return taken;
    }

    // Entries on a cache line of their own, whatever they hold.
    T* scratch(std::int64_t size) {
        constexpr std::int64_t LINE = 64 / sizeof(T);
        const std::int64_t wanted = (size + LINE - 1) / LINE * LINE;
        while (block_ < blocks_.size() && used_ + wanted > blocks_[block_].size) {
            ++block_;
            used_ = 0;
        }
        if (block_ == blocks_.size()) {
            const std::int64_t room = std::max({wanted, BLOCK, blocks_.empty() && BLOCK > 1 ? most_ : 0});
            auto memory = std::make_unique_for_overwrite<T[]>(static_cast<std::size_t>(room) + ALIGNMENT / sizeof(T));
            const auto address = reinterpret_cast<std::uintptr_t>(memory.get());
            T* start = memory.get() + (ALIGNMENT - address % ALIGNMENT) % ALIGNMENT / sizeof(T);
#ifdef MADV_HUGEPAGE  // a wish: a client's memory is crossed at every step, by more streams than there are page entries
            madvise(start, static_cast<std::size_t>(room) * sizeof(T), MADV_HUGEPAGE);
#endif
            blocks_.push_back({std::move(memory), start, room});
            used_ = 0;
        }
        T* taken = blocks_[block_].start + used_;
        used_ += wanted;
        taken_ += wanted;
        return taken;
    }

    // The same as a span.
    std::span<T> vector(std::int64_t size) { return {scratch(size), static_cast<std::size_t>(size)}; }

    // Everything. What lay in several blocks will lie in one.
    void give_back() {
        most_ = std::max(most_, taken_);
        if (BLOCK > 1 && blocks_.size() > 1) blocks_.clear();
        block_ = 0, used_ = 0, taken_ = 0;
    }

  private:
#if defined(__SANITIZE_ADDRESS__)
    // every piece on its own, so that what lies behind it is noticed
    static constexpr std::int64_t BLOCK = 1;
    static constexpr std::uintptr_t ALIGNMENT = 64;
#else
    static constexpr std::int64_t BLOCK = std::int64_t{1} << 18;
    static constexpr std::uintptr_t ALIGNMENT = 4096;  // of a page, as madvise wants it
#endif
    struct Block {
        std::unique_ptr<T[]> memory;
        T* start;
        std::int64_t size;
    };
    std::vector<Block> blocks_;
    std::size_t block_ = 0;
    std::int64_t used_ = 0;
    std::int64_t taken_ = 0, most_ = 0;  // by this client, and by any before
};

}  // namespace fedlps
