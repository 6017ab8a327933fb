/*
 * What rewritten inline assembly calls (assembly.py), and the hypercall page. Every register is kept
 * but the stack's red zone, which kernels do not have, and so are the flags.
 */
	.text
.macro SAVE
	pushfq
	push	%rax; push %rcx; push %rdx; push %rsi; push %rdi
	push	%r8; push %r9; push %r10; push %r11; push %rbp
	mov	%rsp, %rbp
	and	$-16, %rsp
	cld
.endm

.macro RESTORE
	mov	%rbp, %rsp
	pop	%rbp; pop %r11; pop %r10; pop %r9; pop %r8
	pop	%rdi; pop %rsi; pop %rdx; pop %rcx; pop %rax
	popfq
.endm

/* With SAVE's eleven words on the stack the return address is at 88; the site is the call before it. */
.macro CALLED name, function
	.globl	\name
\name:	SAVE
	mov	88(%rbp), %rdi
	dec	%rdi
	call	\function
	RESTORE
	ret
.endm
/* What learns runs on a stack of its own: what it leaves there is another the first time, and would be
 * a part of states on an agent's. */
.macro ASIDE name, function
	.globl	\name
\name:	mov	%rsp, kept_rsp(%rip)
	lea	aside_end(%rip), %rsp
	call	\function
	mov	kept_rsp(%rip), %rsp
	ret
.endm
	.lcomm	kept_rsp, 8
	.local	aside
	.comm	aside, 8192, 16
	.set	aside_end, aside + 8192
	ASIDE	learn, learn_access
	ASIDE	learn_bits, learn_some
	ASIDE	memory_written, keep_written

	CALLED	assembly_cli, engine_cli
	CALLED	assembly_sti, engine_sti
	CALLED	assembly_sti_shadow, engine_sti_shadow
	CALLED	assembly_hlt, engine_hlt
	CALLED	assembly_wfi, engine_wfi
	CALLED	assembly_bug, engine_bug
	CALLED	assembly_fence, engine_fence
	CALLED	assembly_store_barrier, buffers_store_barrier

/* Before a popfq: the flags that it will read, at 96, have the virtual interrupt flag. */
	.globl	assembly_popf
assembly_popf:
	SAVE
	mov	96(%rbp), %rdi
	mov	88(%rbp), %rsi
	dec	%rsi
	call	engine_set_interrupts
	orq	$0x200, 96(%rbp)
	RESTORE
	ret

/* Behind a pushfq: put the virtual interrupt flag into what it pushed. */
	.globl	assembly_pushf
assembly_pushf:
	SAVE
	call	engine_interrupts
	andq	$~0x200, 96(%rbp)
	test	%eax, %eax
	je	1f
	orq	$0x200, 96(%rbp)
1:	RESTORE
	ret

/* An access: rdi the address, rsi a bit's number, edx the kind, ecx the size. */
	.globl	assembly_access
assembly_access:
	SAVE
	mov	%rsi, %rax
	mov	%rdi, %rsi
	mov	%edx, %edi
	mov	%rax, %rdx
	mov	88(%rbp), %r8
	call	engine_assembly
	RESTORE
	ret

/* The hypercall page: 32 bytes for each number; arguments in rdi, rsi, rdx; only rax changes. */
	.balign	4096
	.globl	hypercall_page, HYPERCALL_PAGE, xen_hypercall_page
hypercall_page:
HYPERCALL_PAGE:
xen_hypercall_page:
	.set	number, 0
.rept 64
	.balign	32
	mov	$number, %eax
	jmp	hypercall
	.set	number, number + 1
.endr
	.balign	4096
hypercall:
	pushfq
	push	%rcx; push %rdx; push %rsi; push %rdi
	push	%r8; push %r9; push %r10; push %r11; push %rbp
	mov	%rsp, %rbp
	and	$-16, %rsp
	mov	%rdx, %rcx
	mov	%rsi, %rdx
	mov	%rdi, %rsi
	mov	%eax, %edi
	call	engine_hypercall
	mov	%rbp, %rsp
	pop	%rbp; pop %r11; pop %r10; pop %r9; pop %r8
	pop	%rdi; pop %rsi; pop %rdx; pop %rcx
	popfq
	ret
	.section .note.GNU-stack, "", @progbits
