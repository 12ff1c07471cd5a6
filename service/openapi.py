"""The OpenAPI document."""

from fastapi import FastAPI


def describe(app: FastAPI) -> None:
    """Give the app its OpenAPI document."""
