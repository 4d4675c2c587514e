"""Block sync: make one block device or image file equal to another, and prove it. A room, a tool and a library."""
