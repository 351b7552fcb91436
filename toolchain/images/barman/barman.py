#!/usr/bin/python3
from barman.cli import main

main()
