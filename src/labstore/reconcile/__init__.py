"""The one pattern of every room: observe, plan, guard, apply, verify, record."""
