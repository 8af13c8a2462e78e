from nonesuch.cli import main

main()
