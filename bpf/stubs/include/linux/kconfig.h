/* BCC refuses to compile where this one is not set. */
#define CONFIG_BPF_SYSCALL 1
