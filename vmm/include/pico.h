/*
 * The contract between a host of pico processes and a provider that comes as a shared object.
 *
 * A provider exports pico_provider_register(), with C linkage. The host calls it once, after it has verified the object's
 * signature, and before any process exists; it returns its table of routines through the registration.
 *
 * Every structure begins with its size in bytes, as its maker knows it. Fields are only ever added at the end: each side
 * takes a larger structure and ignores the tail, and a smaller one down to the minimum named at it, and takes what is
 * missing for zero. PICO_VERSION changes when a field changes its meaning; then the two sides don't go together.
 *
 * A routine or callback of the minimum is never null; one behind it may be null or missing, and is absent then.
 *
 * Callbacks come on any thread of the host, several at once. They must not unwind. A pointer that a callback is given is
 * valid until it returns, unless its comment says more. A provider is part of the monitor: what it does wrong with a
 * pointer the host cannot make good.
 */
#ifndef PICO_H
#define PICO_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PICO_VERSION 1u

/* What routines return: PICO_OK, or what is wrong. The numbers are the contract's own. */
typedef int32_t PicoStatus;
#define PICO_OK 0
/* An argument is malformed: a null pointer, a bad range, an unknown flag, an address that is not canonical. */
#define PICO_INVALID (-1)
/* A structure is smaller than its minimum. */
#define PICO_TOO_SMALL (-2)
/* The sandbox's memory limit is reached, or the host has no memory. */
#define PICO_NO_MEMORY (-3)
/* The host has no thread, descriptor or virtual CPU to give. */
#define PICO_EXHAUSTED (-4)
/* The process or thread has ended, or the host is closing. */
#define PICO_OVER (-5)
/* The host cannot do what is asked for. */
#define PICO_UNSUPPORTED (-6)
/* The thread is not stopped outside user mode. */
#define PICO_NOT_STOPPED (-7)
/* User memory could not be accessed. */
#define PICO_FAULT (-8)
/* There is a provider already, or it has handed over before. */
#define PICO_TAKEN (-9)
/* A process exists, so registration has closed. */
#define PICO_SEALED (-10)
/* The provider itself could not do what it was asked for. Hosts never return it. */
#define PICO_FAILED (-11)

/* The host's objects. A provider only ever holds pointers to them. */
typedef struct PicoHost PicoHost;
typedef struct PicoProcess PicoProcess;
typedef struct PicoThread PicoThread;
typedef struct PicoCpu PicoCpu;

/* The general registers of a thread. */
typedef struct PicoRegisters {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rip, rflags;
} PicoRegisters;

/* A trapped thread. Changes of the registers count as the callback's answer says. */
typedef struct PicoFrame {
    uint64_t size;
    PicoRegisters registers;
    PicoCpu *cpu; /* for the routines about frames */
} PicoFrame;

/* Parts of a PicoThreadContext. */
#define PICO_CONTEXT_CONTROL 1u  /* rip, rsp, rflags */
#define PICO_CONTEXT_INTEGER 2u  /* the other general registers */
#define PICO_CONTEXT_BASES 4u    /* of FS and GS */
#define PICO_CONTEXT_EXTENDED 8u /* x87, SSE, AVX and what else XSAVE covers */
#define PICO_CONTEXT_DEBUG 16u   /* the debug registers; of a frame they can be set only */

/* A thread's processor state. Minimum: all of it. */
typedef struct PicoThreadContext {
    uint64_t size;
    uint64_t parts; /* in: which are read or written; out, when read: which are there */
    PicoRegisters registers;
    uint64_t fs_base, gs_base;
    uint64_t debug_addresses[4]; /* DR0 to DR3 */
    uint64_t debug_control;      /* DR7; bits that are not about the four are dropped */
    uint64_t debug_status;       /* DR6; read only */
    void *extended;              /* an XSAVE area in the standard format */
    uint64_t extended_size;      /* in: bytes at `extended`; out, when read, be there room or not: bytes of the area */
} PicoThreadContext;

/* Flags of a PicoProcessAttributes. */
#define PICO_CLONE_PARENT 1u         /* copy the parent's address space */
#define PICO_INHERIT_HANDLES 2u      /* the child holds the parent's handles too */
#define PICO_CLONE_REDUCED_COMMIT 4u /* don't charge the copy's memory up front */
#define PICO_BREAKAWAY 8u            /* leave the parent's resource group */
#define PICO_MINIMAL 0x10000u        /* make a minimal process, which no provider serves */

/* What a new process is made of: a context makes a pico process, PICO_MINIMAL a minimal one. Minimum: all of it. */
typedef struct PicoProcessAttributes {
    uint64_t size;
    PicoProcess *parent; /* or null */
    void *context;       /* the provider's own, or null */
    uint64_t flags;
} PicoProcessAttributes;

/* What a new thread starts with. Minimum: all of it. */
typedef struct PicoThreadAttributes {
    uint64_t size;
    PicoProcess *process;
    void *context;           /* the provider's own; not null */
    PicoRegisters registers; /* rip: the start address; rsp: the user stack */
    uint64_t fs_base, gs_base;
} PicoThreadAttributes;

/* How a suspended thread stands still. */
#define PICO_PARKED 0u      /* outside user mode and outside its provider */
#define PICO_IN_PROVIDER 1u /* its provider is serving it, and it cannot enter user mode before it is resumed */
#define PICO_THREAD_ENDED 2u

/* Bits of an access to user memory. */
#define PICO_READ 1u
#define PICO_WRITE 2u
#define PICO_EXECUTE 4u

/* States of a page. */
#define PICO_PAGE_ABSENT 0u
#define PICO_PAGE_MAPPED 1u
#define PICO_PAGE_COPY_ON_WRITE 2u
#define PICO_PAGE_BUS 3u /* the host cannot supply it */

/* Minimum: all of it. */
typedef struct PicoPage {
    uint64_t size;
    uint32_t state;
    uint32_t access; /* what user mode may do with it; once it is alone, for PICO_PAGE_COPY_ON_WRITE */
} PicoPage;

/* How a frame of a stack was found. */
#define PICO_FOUND_REGISTERS 0u
#define PICO_FOUND_UNWIND_TABLE 1u
#define PICO_FOUND_FRAME_POINTER 2u

/* A frame of a user stack. Names are bytes without an end mark; null where nothing is known. */
typedef struct PicoStackFrame {
    uint64_t size;
    uint64_t address; /* where the frame's code goes on */
    uint32_t found;
    uint32_t reserved;
    const char *module; /* the file or other object whose code it is */
    uint64_t module_size;
    uint64_t module_offset;
    const char *symbol; /* the function */
    uint64_t symbol_size;
    uint64_t symbol_offset;
} PicoStackFrame;

/* Takes the frames of a stack, innermost first. `visit` returns 0 to go on, anything else once it has seen enough. */
typedef struct PicoVisitor PicoVisitor;
struct PicoVisitor {
    uint64_t size;
    int32_t (*visit)(PicoVisitor *visitor, const PicoStackFrame *frame);
};

struct PicoProviderRoutines;

/* The bases that SetThreadDescriptorBase sets. */
#define PICO_BASE_FS 0u
#define PICO_BASE_GS 1u

/*
 * What the host offers. Valid for as long as the monitor runs.
 *
 * CreateProcess and CreateThread give the provider a reference of its own to what they made, and take the context: the host
 * gives it back through the provider's ReleaseProcessContext or ReleaseThreadContext, exactly once, when nothing of the host
 * refers to it any more. If they fail, the context stays the provider's, and is not given back.
 */
typedef struct PicoRoutines {
    uint64_t size;
    uint32_t version;
    uint32_t reserved;
    PicoStatus (*CreateProcess)(PicoHost *host, const PicoProcessAttributes *attributes, PicoProcess **process);
    /* The thread runs once it is started. */
    PicoStatus (*CreateThread)(PicoHost *host, const PicoThreadAttributes *attributes, PicoThread **thread);
    /* Null for a minimal process. */
    void *(*GetProcessContext)(PicoProcess *process);
    void *(*GetThreadContext)(PicoThread *thread);
    /* Of a thread that is stopped; of one that its provider serves, only the registers that it trapped with are there. */
    PicoStatus (*GetContextThreadInternal)(PicoThread *thread, PicoThreadContext *context);
    /* Of a thread that is parked or has not started. */
    PicoStatus (*SetContextThreadInternal)(PicoThread *thread, const PicoThreadContext *context);
    /* Suspensions count. The thread stops before it next enters user mode. */
    PicoStatus (*SuspendThread)(PicoThread *thread);
    PicoStatus (*ResumeThread)(PicoThread *thread);
    PicoStatus (*TerminateThread)(PicoThread *thread);
    /* Of the thread that the frame is of. */
    PicoStatus (*SetThreadDescriptorBase)(PicoFrame *frame, uint32_t which, uint64_t base);
    /* Ends it, without asking the provider: this is how a provider answers its own TerminateProcess. */
    PicoStatus (*TerminateProcess)(PicoProcess *process);
    /* From here on NT has no such routines. */

    /* Puts another table of the same object in charge, once, after registration and before any process exists. */
    PicoStatus (*HandOver)(PicoHost *host, const struct PicoProviderRoutines *routines);
    PicoStatus (*StartThread)(PicoThread *thread);
    /* Makes sure that the provider is called before the thread executes much more of its program. */
    PicoStatus (*KickThread)(PicoThread *thread);
    /* Waits until a suspended thread has left user mode, and tells how it stands still. */
    PicoStatus (*WaitThreadStopped)(PicoThread *thread, uint32_t *stopped);
    /* The state behind a frame. */
    PicoStatus (*GetFrameContext)(PicoFrame *frame, PicoThreadContext *context);
    PicoStatus (*SetFrameContext)(PicoFrame *frame, const PicoThreadContext *context);
    /* Take and give back a reference; each reference is given back exactly once. */
    void (*ReferenceProcess)(PicoProcess *process);
    void (*ReleaseProcess)(PicoProcess *process);
    void (*ReferenceThread)(PicoThread *thread);
    void (*ReleaseThread)(PicoThread *thread);
    /* Ranges are whole pages of the user half. Pages that are there already stay as they are. */
    PicoStatus (*MapMemory)(PicoProcess *process, uint64_t address, uint64_t length, uint32_t access);
    PicoStatus (*UnmapMemory)(PicoProcess *process, uint64_t address, uint64_t length);
    PicoStatus (*ProtectMemory)(PicoProcess *process, uint64_t address, uint64_t length, uint32_t access);
    /* Any bytes; on PICO_FAULT some may have been moved. */
    PicoStatus (*ReadMemory)(PicoProcess *process, uint64_t address, void *to, uint64_t length);
    PicoStatus (*WriteMemory)(PicoProcess *process, uint64_t address, const void *from, uint64_t length);
    /* Whatever the pages' protection, as a loader or a debugger stores. */
    PicoStatus (*PokeMemory)(PicoProcess *process, uint64_t address, const void *from, uint64_t length);
    PicoStatus (*QueryPage)(PicoProcess *process, uint64_t address, PicoPage *page);
    /* Gives a page's sharing after a fork up. */
    PicoStatus (*BreakCopy)(PicoProcess *process, uint64_t address);
    /* Visits a stack's frames by their frame pointers. */
    PicoStatus (*WalkFramePointers)(PicoProcess *process, const PicoRegisters *registers, PicoVisitor *visitor);
} PicoRoutines;

/* Answers to DispatchSystemCall, DispatchException and DispatchKick. Any other ends the thread. */
typedef int32_t PicoDisposition;
#define PICO_RETURN 0      /* from the system call: only rax of the frame is loaded */
#define PICO_RESUME 1      /* with every register of the frame */
#define PICO_EXIT 2        /* the thread is over */
#define PICO_NOT_HANDLED 3 /* exceptions only: the frame is as it was */

/* Minimum: all of it. */
typedef struct PicoExceptionRecord {
    uint64_t size;
    uint32_t vector;  /* the processor's number of the exception */
    uint32_t error;   /* its error code, or 0 */
    uint64_t address; /* for a page fault */
    uint32_t chance;  /* 1, or 2 after PICO_NOT_HANDLED; after that again the host ends the process */
    uint32_t reserved;
} PicoExceptionRecord;

/* Why a thread or a process ended. */
#define PICO_EXITED 0u     /* the provider answered PICO_EXIT */
#define PICO_TERMINATED 1u /* somebody terminated it through the host */
#define PICO_FAILED_TO_RUN 2u
#define PICO_UNHANDLED 3u /* an exception was not handled, twice */

/* A range of the provider's memory that never changes: a table that it dispatches through. */
typedef struct PicoProtectedRange {
    const char *name; /* for people; ended by a zero byte */
    const void *address;
    uint64_t length;
} PicoProtectedRange;

/* What a process does. */
#define PICO_RUNNING 0u
#define PICO_WAITING 1u
#define PICO_STOPPED 2u
#define PICO_ENDED 3u

/* What a tool shows of a process. */
typedef struct PicoProcessDetails {
    uint64_t size;
    uint64_t number;     /* that the personality knows it by */
    uint64_t parent;     /* its parent's, if has_parent */
    uint64_t handles;    /* objects that it holds open */
    uint32_t activity;
    uint32_t has_parent; /* 0 or 1 */
} PicoProcessDetails;

/* Rights to a process and to a thread. */
#define PICO_PROCESS_TERMINATE 0x1u
#define PICO_PROCESS_VM_READ 0x10u
#define PICO_PROCESS_VM_WRITE 0x20u
#define PICO_PROCESS_QUERY 0x400u
#define PICO_PROCESS_SUSPEND_RESUME 0x800u
#define PICO_PROCESS_SYNCHRONIZE 0x100000u
#define PICO_THREAD_TERMINATE 0x1u
#define PICO_THREAD_SUSPEND_RESUME 0x2u
#define PICO_THREAD_GET_CONTEXT 0x8u
#define PICO_THREAD_SET_CONTEXT 0x10u
#define PICO_THREAD_QUERY 0x40u
#define PICO_THREAD_SYNCHRONIZE 0x100000u

/* Personalities. Any other number but 0 is one that the host does not know by name. */
#define PICO_SUBSYSTEM_LINUX 1u

/*
 * What a provider offers; `process` and `thread` are its contexts. The host copies the table: it may go once it was taken.
 * Minimum: up to OpenThreadAllowedAccess; none of the callbacks up to there is null.
 */
typedef struct PicoProviderRoutines {
    uint64_t size;
    uint32_t version;
    uint32_t SubsystemInformationType;
    PicoDisposition (*DispatchSystemCall)(void *thread, PicoFrame *frame);
    PicoDisposition (*DispatchException)(void *thread, const PicoExceptionRecord *record, PicoFrame *frame);
    void (*ExitThread)(void *thread, uint32_t reason);
    void (*ExitProcess)(void *process, uint32_t reason);
    /* Somebody asks that a process be terminated. */
    void (*TerminateProcess)(void *process);
    /* Tells what is on a suspended thread's user stack. */
    void (*WalkUserStack)(void *thread, const PicoRegisters *registers, PicoVisitor *visitor);
    /* May be null if the count is 0. The ranges can be read for as long as the monitor runs. */
    const PicoProtectedRange *ProtectedRanges;
    uint64_t ProtectedRangeCount;
    /* Writes at most `capacity` bytes of the name, without an end mark, and returns how many. */
    uint64_t (*GetAllocatedProcessImageName)(void *process, char *name, uint64_t capacity);
    /* Returns which of the wanted rights `opener` may have: a process's context, or null for a component of the host. */
    uint32_t (*OpenProcessAllowedAccess)(void *process, void *opener, uint32_t wanted);
    uint32_t (*OpenThreadAllowedAccess)(void *thread, void *opener, uint32_t wanted);
    /* The minimum ends here. */

    /* Looks after a thread that was kicked. Absent: it resumes. */
    PicoDisposition (*DispatchKick)(void *thread, PicoFrame *frame);
    /* Handles a fault that the host met at I/O; returns 1 if it was handled, else 0. Absent: it was not. */
    int32_t (*DispatchIoFault)(void *process, uint64_t address, uint32_t access);
    /* Fills in the details, of which all but the size are zero. Absent: they stay zero. */
    void (*GetProcessDetails)(void *process, PicoProcessDetails *details);
    /* Writes how it was started: its arguments, each ended by a zero byte. Else as GetAllocatedProcessImageName. */
    uint64_t (*GetProcessCommand)(void *process, char *command, uint64_t capacity);
    /* As GetAllocatedProcessImageName. Absent: a thread has no name. */
    uint64_t (*GetThreadName)(void *thread, char *name, uint64_t capacity);
    /* The number that the personality knows a thread by. Absent: 0. */
    uint64_t (*GetThreadNumber)(void *thread);
    /* The host has forgotten a context. */
    void (*ReleaseProcessContext)(void *process);
    void (*ReleaseThreadContext)(void *thread);
    /* Begins what the personality is for, such as its first process. The bytes are between it and who starts it. */
    PicoStatus (*Start)(const void *request, uint64_t length);
} PicoProviderRoutines;

/* What the host and the provider tell each other at registration. Minimum: all of it. */
typedef struct PicoRegistration {
    uint64_t size;
    PicoHost *host;                       /* in: for CreateProcess and the like, for as long as the monitor runs */
    const void *parameters;               /* in: what the provider was given along, may be null */
    uint64_t parameters_length;           /* in */
    const PicoProviderRoutines *routines; /* out: the provider's table */
} PicoRegistration;

/* The entry: returns PICO_OK, or a status that says why the provider will not have this host. */
PicoStatus pico_provider_register(const PicoRoutines *routines, PicoRegistration *registration);

#ifdef __cplusplus
}
#endif

#endif
