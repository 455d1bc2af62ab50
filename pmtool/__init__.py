"""Texture-accurate slice interpolation of CT."""
