/* From Xen's first instruction to C, and from an interrupt to C and back.
 *
 * A PVHv2 guest begins at the address in its ELF note, in 32 bits, paging off, with the address of
 * struct hvm_start_info in %ebx. Its first 4 GiB are mapped one to one in pages of 2 MiB; the very
 * last page of these is `window` instead, and behind it there is nothing. So an argument that ends
 * at 4 GiB can be read to its end and not a byte further.
 *
 * All 256 vectors lead to `interrupt` in interrupts.c, with the registers in struct frame.
 */
#define STACK 16384

	.section .note.Xen, "a", @note
	.balign 4
	.long 4, 4, 18			/* sizes of name and value; XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start
	.section .note.GNU-stack, "", @progbits

	.text
	.code32
	.globl start
start:
	cld
	movl $boot_stack_end, %esp
	movl %ebx, %esi
	movl $directories + 3, %eax	/* four page directories */
	movl $pointers, %edi
	movl $4, %ecx
1:	movl %eax, (%edi)
	addl $4096, %eax
	addl $8, %edi
	loop 1b
	movl $0x83, %eax		/* of 512 pages of 2 MiB each */
	movl $directories, %edi
	movl $2048, %ecx
2:	movl %eax, (%edi)
	addl $0x200000, %eax
	addl $8, %edi
	loop 2b
	movl $last + 3, directories + 2047 * 8
	movl $window + 3, last + 511 * 8
	movl $pointers + 3, page_tables

	movl $0x20, %eax		/* PAE */
	movl %eax, %cr4
	movl $page_tables, %eax
	movl %eax, %cr3
	movl $0xC0000080, %ecx		/* EFER.LME */
	rdmsr
	orl $0x100, %eax
	wrmsr
	movl %cr0, %eax
	orl $0x80000001, %eax
	movl %eax, %cr0
	lgdt descriptors_at
	ljmp $8, $in_64_bits

	.code64
in_64_bits:
	call load_segments
	movq $boot_stack_end, %rsp
	movl %esi, %edi
	call probe_main			/* does not return */

load_segments:
	movw $16, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	xorl %eax, %eax
	movw %ax, %fs
	movw %ax, %gs
	ret

	.globl second_start		/* vCPU 1, in 64 bits already */
second_start:
	lgdt descriptors_at
	movq $second_stack_end, %rsp
	call load_segments
	pushq $8
	pushq $3f
	lretq
3:	call second_main		/* does not return */

	.balign 16
	.globl entries
entries:
	vector = 0
	.rept 256
	.balign 16
	.if (vector != 8) && ((vector < 10) || (vector > 14)) && (vector != 17) && (vector != 21)
	pushq $0			/* where the processor pushes no error code */
	.endif
	pushq $vector
	jmp entered
	vector = vector + 1
	.endr

entered:
	pushq %rax
	pushq %rcx
	pushq %rdx
	pushq %rbx
	pushq %rbp
	pushq %rsi
	pushq %rdi
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	cld
	movq %rsp, %rdi
	movq %rsp, %rbp
	andq $-16, %rsp
	call interrupt
	movq %rbp, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rdi
	popq %rsi
	popq %rbp
	popq %rbx
	popq %rdx
	popq %rcx
	popq %rax
	addq $16, %rsp
	iretq

	.data
	.balign 16
descriptors:
	.quad 0
	.quad 0x00AF9A000000FFFF	/* 8: code, 64 bits */
	.quad 0x00CF92000000FFFF	/* 16: data */
descriptors_at:
	.word descriptors_at - descriptors - 1
	.quad descriptors

	.bss
	.balign 4096
	.globl page_tables, hypercall_page, shared_info, frames, grant_frames, window, second_stack, second_stack_end
page_tables:	.skip 4096
pointers:	.skip 4096
directories:	.skip 4 * 4096
last:		.skip 4096
window:		.skip 4096
hypercall_page:	.skip 4096
shared_info:	.skip 4096
frames:		.skip 8 * 4096
grant_frames:	.skip 2 * 4096
boot_stack:	.skip STACK
boot_stack_end:
second_stack:	.skip STACK
second_stack_end:
