//! What an agent holds in memory: it mostly waits, beside whatever the user works with.

/// glibc gives every thread an allocator arena of its own that is never handed back; two are enough. For before there are threads.
pub fn keep_small() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: mallopt only sets parameters, and no other thread exists yet.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 2);
        }
    }
}

/// Gives back the pages of the program itself: bringing an environment up has touched nearly all of them, waiting needs few, and those come
/// back from the page cache by themselves, in microseconds.
pub fn give_back_program() {
    /// Of the first object, which is the program; then no more.
    unsafe extern "C" fn give_back(
        object: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        _data: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: the loader hands over a valid object, whose table of segments it keeps as long as the object is loaded.
        let (base, segments) = unsafe {
            let object = &*object;
            (object.dlpi_addr, std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)))
        };
        // SAFETY: sysconf only reads a number.
        let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
        // What can be written, or could be until the loader had relocated it, holds more than the file does.
        for segment in segments.iter().filter(|one| one.p_type == libc::PT_LOAD && one.p_flags & libc::PF_W == 0) {
            // The last page may be shared with the segment that follows.
            let (from, to) = (base + segment.p_vaddr, base + segment.p_vaddr + segment.p_memsz);
            let (from, to) = (from.div_ceil(page) * page, to / page * page);
            if from < to {
                // SAFETY: these pages are mapped from the program's file and never differed from it: whoever reads them next reads the same.
                // A refusal leaves them where they are.
                _ = unsafe { libc::madvise(from as *mut libc::c_void, (to - from) as usize, libc::MADV_DONTNEED) };
            }
        }
        1
    }
    // SAFETY: the callback is as the loader calls it, and outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(give_back), std::ptr::null_mut()) };
}
