/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * boot.S - a boot sector that uses its disk through the BIOS only, which is
 * the emulated one: reads 64 KiB, adds up their words, writes a sector with
 * the sum, reads that again, and says so on the first serial line.
 *
 * Sectors: 0 this, 1 to 128 what is read, 200 the answer: "tapsnap", NUL, sum.
 */
	.set	DATA, 1
	.set	SECTORS, 64		/* twice */
	.set	ANSWER, 200
	.set	SERIAL, 0x3f8

	.code16
	.globl	_start
_start:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %ss
	movw	$0x7c00, %sp
	sti
	xorw	%bx, %bx
	call	add_up
	movl	$(DATA + SECTORS), packet_sector
	call	add_up
	movw	%bx, sum
	movw	$answer, packet_offset
	movw	%ds, packet_segment
	movw	$1, packet_count
	movl	$ANSWER, packet_sector
	movb	$0x43, %ah
	call	disk
	movw	$again, packet_offset
	movb	$0x42, %ah
	call	disk
	movw	again + 8, %ax
	cmpw	%ax, sum
	jne	failed
	movw	$booted, %si
	jmp	print
failed:
	movw	$wrong, %si
print:
	lodsb
	testb	%al, %al
	jz	end
	movb	%al, %cl
1:	movw	$(SERIAL + 5), %dx
	inb	%dx, %al
	testb	$0x20, %al
	jz	1b
	movb	%cl, %al
	movw	$SERIAL, %dx
	outb	%al, %dx
	jmp	print
end:
	hlt
	jmp	end

/* The packet's sectors, all words of them added to bx. */
add_up:
	movb	$0x42, %ah
	call	disk
	movw	packet_segment, %es
	xorw	%di, %di
	movw	$(SECTORS * 256), %cx
1:	addw	%es:(%di), %bx
	addw	$2, %di
	loop	1b
	ret

/* ah: read or write */
disk:
	pushw	%bx
	xorb	%al, %al
	movb	$0x80, %dl
	movw	$packet, %si
	int	$0x13
	popw	%bx
	jc	failed
	ret

booted:	.asciz	"booted from its disk\r\n"
wrong:	.asciz	"the disk is wrong\r\n"

	.balign	4
packet:
	.byte	16, 0
packet_count:
	.word	SECTORS
packet_offset:
	.word	0
packet_segment:
	.word	0x1000
packet_sector:
	.long	DATA, 0
answer:
	.asciz	"tapsnap"
sum:	.word	0

	.org	510
	.word	0xaa55
	.set	again, 0x7e00
