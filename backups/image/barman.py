#!/usr/bin/python3 -I
from barman.cli import main

main()
