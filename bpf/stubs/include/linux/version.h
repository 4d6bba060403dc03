/* BCC only asks whether the kernel is newer than 4.8 (it is: BTF came with 4.18); the running kernel's release is
 * not consulted since 5.0 for kprobes (Linux commit 6c4fc209fcf9 ("bpf: remove useless version check for prog
 * load") (in v5.0)). */
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#define LINUX_VERSION_CODE KERNEL_VERSION(5, 4, 0)
