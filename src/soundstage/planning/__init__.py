"""Planning: what a configuration takes of memory, time and disk, told before any of it is spent.

Above training, because it counts on training's own objective and modules; nothing but its command imports it.
"""
