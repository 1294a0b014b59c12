"""Crafted traffic: Scapy builds templates from a recipe, their bytes are patched for every frame."""
