internal import CLibUV

/// Reads what the kernel has cached of a file, from a position on, without waiting for a disk (preadv2(2) with
/// RWF_NOWAIT). Returns the number of bytes; 0 if none are cached, or if the system cannot tell.
package func readCachedFile(
  _ file: Int32, at offset: Int64, into buffer: UnsafeMutableRawBufferPointer
) -> Int {
  #if canImport(Glibc)
    var part = iovec(iov_base: buffer.baseAddress, iov_len: buffer.count)
    return max(0, martlet_preadv2(file, &part, 1, Int(offset), Int32(MARTLET_RWF_NOWAIT)))
  #else
    return 0
  #endif
}
