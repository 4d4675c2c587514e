"""A small driver for QEMU machines: image, boot, links, ssh, saved states. See docs/development/lab.md."""
