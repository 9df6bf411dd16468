"""Sends every suite item to every model beside the users, grades the answers, reports."""
