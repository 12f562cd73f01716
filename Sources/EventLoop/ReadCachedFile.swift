internal import CLibUV

/// Reads bytes of a file that the kernel has cached, from a position on, without waiting for the disk (preadv2(2) with
/// RWF_NOWAIT). Returns their number: 0 if none are cached, at the end of the file, on an error, or if the system
/// cannot read in this way.
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
