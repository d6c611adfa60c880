/* System calls without a C library: what a trap must keep and may change. Exits with 42, or with the number of what was lost. */
        .globl  _start
        .text
        .macro  keep register
        inc     %edi
        cmp     %rbx, \register
        jne     lost
        .endm
_start:
        mov     %rsp, stack(%rip)
        movabs  $0x1122334455667788, %rbx
        mov     %rbx, %rbp
        mov     %rbx, %r8
        mov     %rbx, %r9
        mov     %rbx, %r10
        mov     %rbx, %r12
        mov     %rbx, %r13
        mov     %rbx, %r14
        mov     %rbx, %r15
        mov     %rbx, -8(%rsp)          /* the red zone */
        mov     %rbx, -128(%rsp)
        movq    %rbx, %xmm0
        movq    %rbx, %xmm15
        mov     $1, %eax
        mov     $1, %edi
        lea     text(%rip), %rsi
        mov     $(text_end - text), %edx
        stc
        syscall
after:
        mov     $1, %edi                /* 1: the carry flag */
        jnc     lost
        mov     %rcx, %rsi
        lea     after(%rip), %rdx
        inc     %edi                    /* 2: RCX holds the return address */
        cmp     %rdx, %rsi
        jne     lost
        inc     %edi                    /* 3: R11 holds the flags */
        test    $1, %r11
        jz      lost
        inc     %edi                    /* 4: the result */
        cmp     $(text_end - text), %rax
        jne     lost
        keep    %rbp                    /* 5 … 11 */
        keep    %r8
        keep    %r9
        keep    %r10
        keep    %r12
        keep    %r13
        keep    %r14
        keep    %r15                    /* 12 */
        keep    -8(%rsp)
        keep    -128(%rsp)              /* 14 */
        movq    %xmm0, %rax
        keep    %rax
        movq    %xmm15, %rax
        keep    %rax                    /* 16 */
        inc     %edi                    /* 17: the stack pointer */
        cmp     stack(%rip), %rsp
        jne     lost
        mov     $42, %edi
lost:
        mov     $231, %eax
        syscall
        ud2

        .data
stack:  .quad   0
text:   .ascii  "no library\n"
text_end:
        .section .note.GNU-stack, "", @progbits
